"""Steps: what `Flow.step` makes of a function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

from pgflow_events.flow.nodes import (
    BlobNode,
    Condition,
    EachNode,
    FlowLike,
    Node,
    OptionalBlobNode,
    OptionalNode,
    ValueNode,
)
from pgflow_events.flow.options import Context, StepOptions
from pgflow_events.flow.rules import Rules

__all__ = [
    "BlobNode",
    "Condition",
    "Context",
    "EachNode",
    "FlowLike",
    "Node",
    "OptionalBlobNode",
    "OptionalNode",
    "SkippableStep",
    "Step",
    "StepFunction",
    "StepOptions",
    "ValueNode",
    "called",
]

V = TypeVar("V")
T_co = TypeVar("T_co", covariant=True)
Called_co = TypeVar("Called_co", covariant=True)
P = ParamSpec("P")


class Step(ValueNode[T_co]):
    """A step of a flow with an output of type T; `Flow.step` makes it.

    Call it like the decorated function to run the handler by itself, as in a unit test.

    Attributes:
        nodes: Where the handler's arguments come from, in the order of its parameters.
        dependencies: The slugs of the steps among the nodes, in the same order.
        handler: The decorated function.
        is_async: Whether the handler is awaited in trio. A plain function runs in a thread.
        is_stream: Whether the handler yields the bytes of its output.
        is_map: Whether it has a task for each element of a list.
        may_be_skipped: Whether a run may go on without its output.
        options: The options that this step sets for itself.
        rules: When it starts, when it is skipped, and what may be lost.
        media_type: The media type of the output, such as ``text/html``, or None.
        by_element: Whether a list is stored by its elements.
        cpu_bound: Whether the handler runs in a process of its own.
    """

    def __init__(
        self,
        flow: FlowLike,
        slug: str,
        nodes: tuple[Node[Any], ...],
        handler: Callable[..., Any],
        options: StepOptions,
        *,
        rules: Rules = Rules(),  # noqa: B008 - cannot be changed
        media_type: str | None = None,
        by_element: bool = False,
        cpu_bound: bool = False,
    ) -> None:
        super().__init__(flow, slug)
        self.nodes = nodes
        self.dependencies = tuple(
            node.origin.slug for node in nodes if isinstance(node.origin, Step)
        )
        self.handler = handler
        self.is_async = any(map(inspect.iscoroutinefunction, called(handler)))
        self.is_stream = any(map(inspect.isasyncgenfunction, called(handler)))
        self.is_map = any(node.is_element for node in nodes)
        self.may_be_skipped = rules.may_skip
        self.options = options
        self.rules = rules
        self.media_type = media_type
        self.by_element = by_element
        self.cpu_bound = cpu_bound


class StepFunction(Step[T_co], Generic[P, Called_co, T_co]):
    """A step made by the decorator. It can be called like the function, as in a unit test."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Called_co:
        """Call the handler without the engine."""
        called: Called_co = self.handler(*args, **kwargs)
        return called


class SkippableStep(Generic[T_co]):
    """A step that may be skipped. `Flow.step` makes it of a condition, or of ``exhausted``.

    It is no `Node`: a step that depends on it names `or_none`, and its handler takes None too.

    Attributes:
        step: The step.
        flow: The flow to which it belongs.
        slug: The slug of the step.
        handler: The decorated function.
    """

    def __init__(self, step: Step[T_co]) -> None:
        self.step = step
        self.handler = step.handler
        self.flow = step.flow
        self.slug = step.slug

    @property
    def or_none(self) -> OptionalNode[T_co]:
        """The node that gives the output of this step, and None if it was skipped."""
        return OptionalNode(self.step)

    @property
    def each(self: SkippableStep[list[V]]) -> EachNode[V]:
        """The elements of its output, a list: none if it was skipped."""
        return self.step.each

    def contains(self, pattern: Any) -> Condition:
        """Return the condition that the step was not skipped and its output contains a pattern.

        Args:
            pattern: A value that JSON has, as `ValueNode.contains` takes it.
        """
        return self.step.contains(pattern)

    def __repr__(self) -> str:
        return repr(self.step)


class SkippableFunction(SkippableStep[T_co], Generic[P, Called_co, T_co]):
    """A step made by the decorator. It can be called like the function, as in a unit test."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Called_co:
        """Call the handler without the engine."""
        called: Called_co = self.handler(*args, **kwargs)
        return called


def called(handler: Callable[..., Any]) -> tuple[object, object]:
    """What shows the kind of a handler: the function, or the `__call__` of the object's class."""
    return handler, type(handler).__call__
