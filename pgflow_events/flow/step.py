"""Steps, and the nodes that give their handlers the arguments."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, ParamSpec, Protocol, TypedDict, TypeVar, overload
from uuid import UUID

import trio

from blobstore import Blob

# The types that can be stored. If this were `object`, a coroutine would be an output as well. Then
# mypy could not tell the overloads of StepDecorator apart where a handler's signature has an Any
# in it, and would check nothing.
Output = str | bytes | int | float | list[Any] | Mapping[str, Any] | None

R = TypeVar("R", bound=Output)
V = TypeVar("V")
T_co = TypeVar("T_co", covariant=True)
Called_co = TypeVar("Called_co", covariant=True)
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler may know about its attempt. The node `Flow.context` gives it.

    Attributes:
        run_id: The id of the run.
        step: The slug of the step.
        attempt: The number of this attempt, counted from 1.
        log: A logger whose records name the run, the step and the attempt.
        cancel_scope: The scope in which the handler runs. Its `deadline` is the end of the step's
            timeout, on trio's clock. A handler in a thread calls
            `trio.from_thread.check_cancelled()` to learn that it was cancelled.
        resources: The user's own objects, such as an HTTP client or a pool, which the worker's
            ``resources`` opened. All tasks of the worker share them.
    """

    run_id: UUID
    step: str
    attempt: int
    log: logging.Logger | logging.LoggerAdapter[logging.Logger]
    cancel_scope: trio.CancelScope
    resources: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StepOptions:
    """How often and how long a step is tried, and how its output is stored.

    In a step, None stands for the flow's option. All options are whole numbers.

    Attributes:
        max_attempts: How many times the handler is tried in all; at least 1.
        base_delay: Seconds, at least 0. After failed attempt n the next one waits
            ``base_delay * 2 ** n`` seconds. With 0 it follows at once.
        timeout: Seconds that a handler may run before its attempt fails; at least 1.
        blob_threshold: Bytes, at least 0. An output whose encoding is larger is stored as a blob.
        keep_output: Seconds, at least 0, for which an output that is a blob is kept after the end
            of the run. None keeps it as long as the run.
    """

    max_attempts: int | None = None
    base_delay: int | None = None
    timeout: int | None = None
    blob_threshold: int | None = None
    keep_output: int | None = None


class StepKeywords(TypedDict, total=False):
    """The keywords of `Flow.step`: the fields of `StepOptions`, and its own arguments."""

    slug: str | None
    media_type: str | None
    by_element: bool
    cpu_bound: bool
    max_attempts: int | None
    base_delay: int | None
    timeout: int | None
    blob_threshold: int | None
    keep_output: int | None


class FlowLike(Protocol):
    """The part of a flow that its nodes use."""

    slug: str
    options: StepOptions
    context: Node[Context]


class Node(Generic[T_co]):
    """A place that an argument of type T comes from: a step, the input, or the context.

    Attributes:
        flow: The flow to which it belongs.
        slug: The name of its value: ``run`` for the input, the slug for a step, ``context`` for
            the context.
    """

    takes_handle = False
    """Whether it gives the handle of a value rather than the value."""

    def __init__(self, flow: FlowLike, slug: str) -> None:
        self.flow = flow
        self.slug = slug

    @property
    def origin(self) -> Node[Any]:
        """The node of the value itself."""
        return self

    def __repr__(self) -> str:
        return f"<node {self.flow.slug}.{self.slug}>"


class ValueNode(Node[T_co]):
    """A node whose value is stored: a step, or the input."""

    @property
    def blob(self) -> BlobNode[T_co]:
        """The node that gives the handle of this value, a `Blob`, which the handler reads."""
        return BlobNode(self)


class BlobNode(Node[Blob[T_co]], Generic[T_co]):
    """A node that gives a handler the handle of a value. `ValueNode.blob` makes it."""

    takes_handle = True

    def __init__(self, origin: ValueNode[T_co]) -> None:
        super().__init__(origin.flow, origin.slug)
        self._origin = origin

    @property
    def origin(self) -> Node[Any]:
        """The node of the value itself."""
        return self._origin


class Step(ValueNode[T_co]):
    """A step of a flow with an output of type T; `Flow.step` makes it.

    Call it like the decorated function to run the handler by itself, as in a unit test.

    Attributes:
        nodes: Where the handler's arguments come from, in the order of its parameters.
        dependencies: The slugs of the steps among the nodes, in the same order.
        handler: The decorated function.
        is_async: Whether the handler is awaited in trio. A plain function runs in a thread.
        is_stream: Whether the handler yields the bytes of its output.
        options: The options that this step sets for itself.
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
        media_type: str | None = None,
        by_element: bool = False,
        cpu_bound: bool = False,
    ) -> None:
        super().__init__(flow, slug)
        self.nodes = nodes
        self.dependencies = tuple(node.slug for node in nodes if isinstance(node.origin, Step))
        self.handler = handler
        self.is_async = any(map(inspect.iscoroutinefunction, called(handler)))
        self.is_stream = any(map(inspect.isasyncgenfunction, called(handler)))
        self.options = options
        self.media_type = media_type
        self.by_element = by_element
        self.cpu_bound = cpu_bound


class StepFunction(Step[T_co], Generic[P, Called_co, T_co]):
    """A step made by the decorator. It can be called like the function, as in a unit test."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Called_co:
        """Call the handler without the engine."""
        called: Called_co = self.handler(*args, **kwargs)
        return called


class StepDecorator(Generic[P]):
    """Makes a step of a handler that takes the parameters P. `Flow.step` returns it."""

    def __init__(self, define: Callable[[Callable[P, Any]], StepFunction[P, Any, Any]]) -> None:
        self._define = define

    @overload
    def __call__(self, handler: Callable[P, Awaitable[R]]) -> StepFunction[P, Awaitable[R], R]: ...
    @overload
    def __call__(
        self, handler: Callable[P, Awaitable[Blob[V]]]
    ) -> StepFunction[P, Awaitable[Blob[V]], V]: ...
    @overload
    def __call__(
        self, handler: Callable[P, Awaitable[Path | AsyncIterator[bytes]]]
    ) -> StepFunction[P, Awaitable[Path | AsyncIterator[bytes]], bytes]: ...
    @overload
    def __call__(self, handler: Callable[P, R]) -> StepFunction[P, R, R]: ...
    @overload
    def __call__(self, handler: Callable[P, Blob[V]]) -> StepFunction[P, Blob[V], V]: ...
    @overload
    def __call__(
        self, handler: Callable[P, Path | AsyncIterator[bytes]]
    ) -> StepFunction[P, Path | AsyncIterator[bytes], bytes]: ...
    def __call__(self, handler: Callable[P, Any]) -> StepFunction[P, Any, Any]:
        """Add the step to its flow.

        Raises:
            DefinitionError: The step is not valid. The message names it and lists every fault.
        """
        return self._define(handler)


def called(handler: Callable[..., Any]) -> tuple[object, object]:
    """What shows the kind of a handler: the function, or the `__call__` of the object's class."""
    return handler, type(handler).__call__
