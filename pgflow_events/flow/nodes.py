"""Nodes: the places that the arguments of handlers come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from blobstore import Blob
from pgflow_events.flow.options import Context, StepOptions

V = TypeVar("V")
T_co = TypeVar("T_co", covariant=True)
Kind_co = TypeVar("Kind_co", covariant=True)


class FlowLike(Protocol):
    """The part of a flow that its nodes use."""

    slug: str
    options: StepOptions
    context: Node[Context]


class One:
    """The kind of a step with one task."""


class Many:
    """The kind of a map."""


class First(Generic[T_co, Kind_co]):
    """What may be named first. It decides the kind of the step: `One`, or `Many`.

    `Flow.step` has one overload for both. With two, mypy would check nothing where a node is Any.
    """


class Node(First[T_co, One], Generic[T_co]):
    """A place that an argument of type T comes from: a step, the input, or the context.

    Attributes:
        flow: The flow to which it belongs.
        slug: The name of its value: ``run`` for the input, the slug for a step, ``context`` for
            the context, and with ``.each`` after it for an element.
    """

    takes_handle = False
    """Whether it gives the handle of a value rather than the value."""

    is_optional = False
    """Whether it gives None where its step was skipped."""

    is_element = False
    """Whether it gives one element of a list, or its handle."""

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

    feeds_map = False
    """Whether a map goes over its value."""

    def __init__(self, flow: FlowLike, slug: str) -> None:
        super().__init__(flow, slug)
        self.watchers: dict[str, Mapping[str, Any]] = {}
        """The patterns that are looked for in its value: by the step that is to run, what is
        ``required`` and what is ``forbidden``."""

    @property
    def blob(self) -> BlobNode[T_co]:
        """The node that gives the handle of this value, a `Blob`, which the handler reads."""
        return BlobNode(self)

    @property
    def each(self: ValueNode[list[V]]) -> EachNode[V]:
        """The elements of this value, a list. A step that names them first has a task for each."""
        return EachNode(ElementNode(self))

    def contains(self, pattern: Any) -> Condition:
        """Return the condition that this value contains a pattern, for ``run_if``.

        Args:
            pattern: A value that JSON has. An object is contained in one that has all its keys,
                with values that contain those of the pattern. A list is contained in one that
                has all its elements, in any order. Anything else must be equal.
        """
        return Condition(self.origin, pattern)


class BlobNode(Node[Blob[T_co]], Generic[T_co]):
    """A node that gives a handler the handle of a value. `ValueNode.blob` makes it."""

    takes_handle = True

    def __init__(self, value: ValueNode[T_co]) -> None:
        super().__init__(value.flow, value.slug)
        self._value = value
        self.is_element = value.is_element

    @property
    def origin(self) -> Node[Any]:
        """The node of the value itself."""
        return self._value.origin


class ElementNode(ValueNode[T_co]):
    """The node of one element of a list: a task of a map gets that of its index."""

    is_element = True

    def __init__(self, whole: ValueNode[list[T_co]]) -> None:
        super().__init__(whole.flow, f"{whole.slug}.each")
        self._whole = whole

    @property
    def origin(self) -> Node[Any]:
        """The node of the list."""
        return self._whole.origin


class OptionalNode(Node[T_co | None], Generic[T_co]):
    """The node of a step that may be skipped, which gives None then. `SkippableStep.or_none`."""

    is_optional = True

    def __init__(self, step: ValueNode[T_co]) -> None:
        super().__init__(step.flow, step.slug)
        self._step = step

    @property
    def origin(self) -> Node[Any]:
        """The step."""
        return self._step

    @property
    def blob(self) -> OptionalBlobNode[T_co]:
        """The node that gives the handle of the output, or None if the step was skipped."""
        return OptionalBlobNode(self._step)

    def contains(self, pattern: Any) -> Condition:
        """Return the condition that the step was not skipped and its output contains a pattern."""
        return self._step.contains(pattern)


class OptionalBlobNode(Node[Blob[T_co] | None], Generic[T_co]):
    """A node that gives the handle of a value, or None. `OptionalNode.blob` makes it."""

    takes_handle = True
    is_optional = True

    def __init__(self, step: ValueNode[T_co]) -> None:
        super().__init__(step.flow, step.slug)
        self._step = step

    @property
    def origin(self) -> Node[Any]:
        """The step."""
        return self._step


class EachNode(First[T_co, Many], Generic[T_co]):
    """The elements of a list, one for each task. `ValueNode.each` makes it.

    It is no `Node`, so that it fits only the first place of a step, which it makes a map.

    Attributes:
        node: The node that gives a task its element.
    """

    def __init__(self, node: Node[T_co]) -> None:
        self.node = node

    @property
    def slug(self) -> str:
        """The name of the element: that of the list, and ``.each``."""
        return self.node.slug

    @property
    def flow(self) -> FlowLike:
        """The flow to which it belongs."""
        return self.node.flow

    @property
    def origin(self) -> Node[Any]:
        """The node of the list."""
        return self.node.origin

    @property
    def blob(self) -> EachNode[Blob[T_co]]:
        """The handles of the elements, which the handler reads."""
        node = self.node
        return EachNode(BlobNode(node)) if isinstance(node, ElementNode) else self  # type: ignore[return-value]  # a handle has no handle

    def __repr__(self) -> str:
        return repr(self.node)


@dataclass(frozen=True, slots=True)
class Condition:
    """That a value contains a pattern. `ValueNode.contains` makes it, for `Flow.step`.

    ``a & b`` is the condition that both hold, of two values.

    Attributes:
        node: The node of the value: a step, or the input.
        pattern: What JSON has. It is what `jsonb @> pattern` means in SQL.
        others: The conditions of other values that must hold as well.
    """

    node: Node[Any]
    pattern: Any
    others: tuple[Condition, ...] = ()

    @property
    def parts(self) -> tuple[Condition, ...]:
        """The conditions of the values, one for each."""
        return Condition(self.node, self.pattern), *self.others

    def __and__(self, other: Condition) -> Condition:
        return Condition(self.node, self.pattern, (*self.others, *other.parts))

    def __bool__(self) -> bool:
        # Otherwise `a and b` would be b, without a word.
        raise TypeError(
            "a condition is not true or false before a run: write a & b for both,"
            " run_unless for not, and a step more for or"
        )
