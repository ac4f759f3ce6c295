"""A PostgreSQL of its own, for machines that have none.

    with EmbeddedServer() as server:  # starts it, or joins the one that runs
        migrate_now(server.dsn)  # creates the tables and functions if they are missing
        trio.run(main, server.dsn)

docs/guide/embedded.md says where it keeps its data, and when it stops.
"""

from pgflow_events.embedded.server import EmbeddedServer

__all__ = ["EmbeddedServer"]
