"""The worker: it claims tasks, runs their handlers and commits what they return."""

from pgflow_events.worker.worker import Worker

__all__ = ["Worker"]
