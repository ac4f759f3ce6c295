"""What a database is made of, and how migrations bring it there."""
