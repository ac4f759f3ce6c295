"""How a worker commits the outcomes of tasks."""
