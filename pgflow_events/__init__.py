"""A workflow engine inside PostgreSQL with an event-driven trio worker."""
