"""The client: it starts runs, waits for them and reads what they gave."""

from pgflow_events.client.client import Client, connect

__all__ = ["Client", "connect"]
