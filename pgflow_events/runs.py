"""The old place of :class:`Run`: import it from :mod:`pgflow_events`."""

from pgflow_events.client.run import Run

__all__ = ["Run"]
