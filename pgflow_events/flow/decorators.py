"""What type checkers know of `Flow.step`: its keywords, and the decorators that it returns."""

from __future__ import annotations

import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, Required, TypedDict, overload

from blobstore import Blob
from pgflow_events.flow.nodes import Condition, Many, One
from pgflow_events.flow.rules import Skip, Unmet
from pgflow_events.flow.step import SkippableFunction, StepFunction

# The types that can be stored. If this were `object`, a coroutine would be an output as well. Then
# mypy could not tell the overloads of StepDecorator apart where a handler's signature has an Any
# in it, and would check nothing.
Output = str | bytes | int | float | list[Any] | Mapping[str, Any] | None

R = typing.TypeVar("R", bound=Output)
V = typing.TypeVar("V")
P = ParamSpec("P")
Lost_co = typing.TypeVar("Lost_co", covariant=True)
Kind_co = typing.TypeVar("Kind_co", covariant=True)

# The types of three arguments of `Flow.step`: of the conditions, of `unmet`, of `exhausted`. They
# are None where nothing is given, so a decorator knows from them whether its step may be skipped.
if TYPE_CHECKING:
    from typing_extensions import TypeVar  # with defaults, which checkers know of any Python

    If = TypeVar("If", bound=Condition | None, default=None)
    Un = TypeVar("Un", bound=Unmet | None, default=None)
    Ex = TypeVar("Ex", bound=Skip | None, default=None)
    If_co = TypeVar("If_co", bound=Condition | None, default=None, covariant=True)
    Un_co = TypeVar("Un_co", bound=Unmet | None, default=None, covariant=True)
    Ex_co = TypeVar("Ex_co", bound=Skip | None, default=None, covariant=True)
else:
    If, Un, Ex, If_co, Un_co, Ex_co = map(typing.TypeVar, ("If", "Un", "Ex", "If_", "Un_", "Ex_"))

File = Path | AsyncIterator[bytes]


class StepKeywords(TypedDict, Generic[If, Un, Ex], total=False):
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
    start_delay: int | None
    run_if: If
    run_unless: If
    unmet: Un
    exhausted: Literal["fail"] | Ex


class LossyKeywords(StepKeywords[If, Un, Ex], Generic[If, Un, Ex], total=False):
    """The keywords of a map that may lose elements."""

    lost: Required[Literal["none"]]
    tolerate: float | None


class StepDecorator(Generic[P, Kind_co, Lost_co, If_co, Un_co, Ex_co]):
    """Makes a step of a handler that takes the parameters P. `Flow.step` returns it."""

    def __init__(self, define: Callable[[Callable[P, Any]], Any]) -> None:
        self._define = define

    # A step that cannot be skipped.
    @overload
    def __call__(
        self: StepDecorator[P, One, Any, None, Any, None]
        | StepDecorator[P, One, Any, Any, Literal["fail"], None],
        handler: Callable[P, Awaitable[R]],
    ) -> StepFunction[P, Awaitable[R], R]: ...
    @overload
    def __call__(
        self: StepDecorator[P, One, Any, None, Any, None]
        | StepDecorator[P, One, Any, Any, Literal["fail"], None],
        handler: Callable[P, Awaitable[Blob[V]]],
    ) -> StepFunction[P, Awaitable[Blob[V]], V]: ...
    @overload
    def __call__(
        self: StepDecorator[P, One, Any, None, Any, None]
        | StepDecorator[P, One, Any, Any, Literal["fail"], None],
        handler: Callable[P, Awaitable[File]],
    ) -> StepFunction[P, Awaitable[File], bytes]: ...
    @overload
    def __call__(
        self: StepDecorator[P, One, Any, None, Any, None]
        | StepDecorator[P, One, Any, Any, Literal["fail"], None],
        handler: Callable[P, R],
    ) -> StepFunction[P, R, R]: ...
    @overload
    def __call__(
        self: StepDecorator[P, One, Any, None, Any, None]
        | StepDecorator[P, One, Any, Any, Literal["fail"], None],
        handler: Callable[P, Blob[V]],
    ) -> StepFunction[P, Blob[V], V]: ...
    @overload
    def __call__(
        self: StepDecorator[P, One, Any, None, Any, None]
        | StepDecorator[P, One, Any, Any, Literal["fail"], None],
        handler: Callable[P, File],
    ) -> StepFunction[P, File, bytes]: ...
    # A step that may be skipped.
    @overload
    def __call__(
        self: StepDecorator[P, One, Any, Any, Any, Any],
        handler: Callable[P, Awaitable[R]],
    ) -> SkippableFunction[P, Awaitable[R], R]: ...
    @overload
    def __call__(
        self: StepDecorator[P, One, Any, Any, Any, Any],
        handler: Callable[P, Awaitable[Blob[V]]],
    ) -> SkippableFunction[P, Awaitable[Blob[V]], V]: ...
    @overload
    def __call__(
        self: StepDecorator[P, One, Any, Any, Any, Any],
        handler: Callable[P, Awaitable[File]],
    ) -> SkippableFunction[P, Awaitable[File], bytes]: ...
    @overload
    def __call__(
        self: StepDecorator[P, One, Any, Any, Any, Any],
        handler: Callable[P, R],
    ) -> SkippableFunction[P, R, R]: ...
    @overload
    def __call__(
        self: StepDecorator[P, One, Any, Any, Any, Any],
        handler: Callable[P, Blob[V]],
    ) -> SkippableFunction[P, Blob[V], V]: ...
    @overload
    def __call__(
        self: StepDecorator[P, One, Any, Any, Any, Any],
        handler: Callable[P, File],
    ) -> SkippableFunction[P, File, bytes]: ...
    # A map that cannot be skipped. Its output has Lost_co in place of an element that was lost.
    @overload
    def __call__(
        self: StepDecorator[P, Many, Lost_co, None, Any, None]
        | StepDecorator[P, Many, Lost_co, Any, Literal["fail"], None],
        handler: Callable[P, Awaitable[R]],
    ) -> StepFunction[P, Awaitable[R], list[R | Lost_co]]: ...
    @overload
    def __call__(
        self: StepDecorator[P, Many, Lost_co, None, Any, None]
        | StepDecorator[P, Many, Lost_co, Any, Literal["fail"], None],
        handler: Callable[P, Awaitable[Blob[V]]],
    ) -> StepFunction[P, Awaitable[Blob[V]], list[V | Lost_co]]: ...
    @overload
    def __call__(
        self: StepDecorator[P, Many, Lost_co, None, Any, None]
        | StepDecorator[P, Many, Lost_co, Any, Literal["fail"], None],
        handler: Callable[P, Awaitable[File]],
    ) -> StepFunction[P, Awaitable[File], list[bytes | Lost_co]]: ...
    @overload
    def __call__(
        self: StepDecorator[P, Many, Lost_co, None, Any, None]
        | StepDecorator[P, Many, Lost_co, Any, Literal["fail"], None],
        handler: Callable[P, R],
    ) -> StepFunction[P, R, list[R | Lost_co]]: ...
    @overload
    def __call__(
        self: StepDecorator[P, Many, Lost_co, None, Any, None]
        | StepDecorator[P, Many, Lost_co, Any, Literal["fail"], None],
        handler: Callable[P, Blob[V]],
    ) -> StepFunction[P, Blob[V], list[V | Lost_co]]: ...
    @overload
    def __call__(
        self: StepDecorator[P, Many, Lost_co, None, Any, None]
        | StepDecorator[P, Many, Lost_co, Any, Literal["fail"], None],
        handler: Callable[P, File],
    ) -> StepFunction[P, File, list[bytes | Lost_co]]: ...
    # A map that may be skipped.
    @overload
    def __call__(
        self: StepDecorator[P, Many, Lost_co, Any, Any, Any],
        handler: Callable[P, Awaitable[R]],
    ) -> SkippableFunction[P, Awaitable[R], list[R | Lost_co]]: ...
    @overload
    def __call__(
        self: StepDecorator[P, Many, Lost_co, Any, Any, Any],
        handler: Callable[P, Awaitable[Blob[V]]],
    ) -> SkippableFunction[P, Awaitable[Blob[V]], list[V | Lost_co]]: ...
    @overload
    def __call__(
        self: StepDecorator[P, Many, Lost_co, Any, Any, Any],
        handler: Callable[P, Awaitable[File]],
    ) -> SkippableFunction[P, Awaitable[File], list[bytes | Lost_co]]: ...
    @overload
    def __call__(
        self: StepDecorator[P, Many, Lost_co, Any, Any, Any],
        handler: Callable[P, R],
    ) -> SkippableFunction[P, R, list[R | Lost_co]]: ...
    @overload
    def __call__(
        self: StepDecorator[P, Many, Lost_co, Any, Any, Any],
        handler: Callable[P, Blob[V]],
    ) -> SkippableFunction[P, Blob[V], list[V | Lost_co]]: ...
    @overload
    def __call__(
        self: StepDecorator[P, Many, Lost_co, Any, Any, Any],
        handler: Callable[P, File],
    ) -> SkippableFunction[P, File, list[bytes | Lost_co]]: ...
    def __call__(self, handler: Callable[P, Any]) -> Any:
        """Add the step to its flow.

        Raises:
            DefinitionError: The step is not valid. The message names it and lists every fault.
        """
        return self._define(handler)
