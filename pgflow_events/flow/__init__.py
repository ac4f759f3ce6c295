"""What runs: flows of steps, how they are written down, and what is wrong with them."""

from pgflow_events.flow.flow import Context, Flow, Node, Step
from pgflow_events.flow.step import StepOptions

__all__ = ["Context", "Flow", "Node", "Step", "StepOptions"]
