"""Output for people: tables, runs, and a console that replaces control characters."""
