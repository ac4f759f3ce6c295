"""The old place of :func:`migrate_now`: import it from :mod:`pgflow_events`."""

from pgflow_events.schema.migrations import migrate, migrate_now

__all__ = ["migrate", "migrate_now"]
