"""The client: it starts runs, waits for them and reads their outputs.

`client.py` shows how a program uses it.
"""

from pgflow_events.client.client import Client, connect
from pgflow_events.client.run import Run

__all__ = ["Client", "Run", "connect"]
