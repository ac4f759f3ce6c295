"""The worker: it claims tasks, runs their handlers and commits what they return.

`worker.py` shows how a program uses it.
"""

from pgflow_events.worker.worker import Worker

__all__ = ["Worker"]
