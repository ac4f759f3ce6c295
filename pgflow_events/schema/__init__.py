"""The contents of a database, and the migrations that create them."""
