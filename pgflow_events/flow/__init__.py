"""Flows and steps: how users define them, and what may be wrong with a definition."""

from pgflow_events.flow.flow import Context, Flow, Node, Step
from pgflow_events.flow.step import StepOptions

__all__ = ["Context", "Flow", "Node", "Step", "StepOptions"]
