"""`python -m pgflow_events` is `pgflow-events`."""

from pgflow_events.cli import main

main()
