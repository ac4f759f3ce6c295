"""What is shown to people: tables, runs, and a console that escapes what it is given."""
