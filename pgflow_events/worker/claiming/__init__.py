"""Which tasks a worker claims, and when."""
