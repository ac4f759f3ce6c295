"""Values: which ones are accepted, what they weigh, and how they become stored bytes."""
