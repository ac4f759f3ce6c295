"""Flows and steps: how users define them, and what may be wrong with a definition."""

from pgflow_events.flow.flow import Context, Flow, Node, Step
from pgflow_events.flow.nodes import Condition, EachNode
from pgflow_events.flow.step import SkippableStep, StepOptions

__all__ = [
    "Condition",
    "Context",
    "EachNode",
    "Flow",
    "Node",
    "SkippableStep",
    "Step",
    "StepOptions",
]
