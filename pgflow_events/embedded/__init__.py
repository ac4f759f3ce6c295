"""A PostgreSQL of its own, for machines that have none."""

from pgflow_events.embedded.server import EmbeddedServer

__all__ = ["EmbeddedServer"]
