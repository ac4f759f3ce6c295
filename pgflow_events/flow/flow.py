"""Flows, and the decorator that makes a function a step.

    greet = Flow("greet", input=str)

    @greet.step(greet.input)
    async def greeting(name: str) -> str:
        return f"hello {name}"

    @greet.step(greeting, max_attempts=5)
    def shout(text: str) -> str:
        return text.upper()

A decorated function is a step, and a step that depends on it names it. So a flow has no cycle, a
misspelt dependency is a NameError, and type checkers compare each parameter of a handler with what
its node gives. Nothing here does I/O.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields
from itertools import chain
from types import FunctionType, MappingProxyType
from typing import Any, Generic, ParamSpec, TypeVar, Unpack, overload

from pgflow_events.errors import DefinitionError
from pgflow_events.flow.option_faults import (
    input_faults,
    kind_faults,
    name_faults,
    quoted,
    range_faults,
)
from pgflow_events.flow.step import (
    Context,
    Node,
    Step,
    StepDecorator,
    StepFunction,
    StepKeywords,
    StepOptions,
    ValueNode,
)
from pgflow_events.flow.step_faults import (
    handle_faults,
    handler_faults,
    node_faults,
    process_faults,
    slug_faults,
)

__all__ = ["Context", "Flow", "Node", "Step", "StepOptions"]

In = TypeVar("In")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
G = TypeVar("G")
H = TypeVar("H")
P = ParamSpec("P")

# A flow's slug is also the name of its queue, and pgmq takes no longer names.
_LONGEST_FLOW_SLUG = 47
_OPTIONS = tuple(field.name for field in fields(StepOptions))
_FLOW_OPTIONS = ("input", *_OPTIONS)
_STEP_OPTIONS = tuple(StepKeywords.__annotations__)


class Flow(Generic[In]):
    """A directed acyclic graph of steps, run with an input.

    The options hold for every step that does not set its own. All of them are whole numbers.

    Args:
        slug: The name of the flow in the database, and of its queue: 1 to 47 letters (A to Z),
            digits and underscores, not beginning with a digit, and not ``run``.
        input: The type of the input, for type checkers only. A type that is not a class, such as
            a union, is given by an annotation: ``flow: Flow[str | None] = Flow("slug")``.
        max_attempts: How many times a handler is tried in all; at least 1.
        base_delay: Seconds, at least 0. After failed attempt n the next one waits
            ``base_delay * 2 ** n`` seconds.
        timeout: Seconds that a handler may run before its attempt fails; at least 1.
        blob_threshold: Bytes. An output whose encoding is larger is stored as a blob; so is the
            input of a run.
        keep_output: Seconds for which an output that is a blob, or the input, is kept after the
            end of the run. None keeps it as long as the run.

    Attributes:
        slug: The slug.
        options: The options, as `StepOptions`. Only `keep_output` can be None.
        input: The node that gives a handler the input of the run.
        context: The node that gives a handler its `Context`.

    Raises:
        DefinitionError: The slug or an option is not valid. The message lists every fault.
    """

    @overload
    def __init__(
        self: Flow[Any],
        slug: str,
        *,
        max_attempts: int = 3,
        base_delay: int = 5,
        timeout: int = 60,
        blob_threshold: int = 8192,
        keep_output: int | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        slug: str,
        *,
        input: type[In],
        max_attempts: int = 3,
        base_delay: int = 5,
        timeout: int = 60,
        blob_threshold: int = 8192,
        keep_output: int | None = None,
    ) -> None: ...
    def __init__(
        self,
        slug: str = "",
        *surplus: object,
        input: type[In] | None = None,  # noqa: A002 - what users call it
        max_attempts: int = 3,
        base_delay: int = 5,
        timeout: int = 60,
        blob_threshold: int = 8192,
        keep_output: int | None = None,
        **unknown: object,
    ) -> None:
        options = StepOptions(max_attempts, base_delay, timeout, blob_threshold, keep_output)
        # Only keep_output may be None. Not asdict(), which copies the values that users gave.
        must = {name: getattr(options, name) for name in _OPTIONS if name != "keep_output"}
        faults = chain(
            slug_faults(slug, longest=_LONGEST_FLOW_SLUG),
            (f"{quoted(value)} needs the name of an option before it" for value in surplus),
            name_faults(unknown, _FLOW_OPTIONS),
            input_faults(input),
            range_faults(must | set_options(options)),
        )
        _refuse(f"flow {quoted(slug)}", faults)
        self.slug = slug
        self.options = options
        self.input: ValueNode[In] = ValueNode(self, "run")
        self.context: Node[Context] = Node(self, "context")
        self._steps: dict[str, Step[Any]] = {}

    def __repr__(self) -> str:
        return f"<Flow {self.slug}>"

    @property
    def steps(self) -> Mapping[str, Step[Any]]:
        """The steps by slug, in the order of their definition."""
        return MappingProxyType(self._steps)

    @overload
    def step(self, /, **options: Unpack[StepKeywords]) -> StepDecorator[[]]: ...
    @overload
    def step(self, a: Node[A], /, **options: Unpack[StepKeywords]) -> StepDecorator[[A]]: ...
    @overload
    def step(
        self, a: Node[A], b: Node[B], /, **options: Unpack[StepKeywords]
    ) -> StepDecorator[[A, B]]: ...
    @overload
    def step(
        self, a: Node[A], b: Node[B], c: Node[C], /, **options: Unpack[StepKeywords]
    ) -> StepDecorator[[A, B, C]]: ...
    @overload
    def step(
        self, a: Node[A], b: Node[B], c: Node[C], d: Node[D], /, **options: Unpack[StepKeywords]
    ) -> StepDecorator[[A, B, C, D]]: ...
    @overload
    def step(
        self,
        a: Node[A],
        b: Node[B],
        c: Node[C],
        d: Node[D],
        e: Node[E],
        /,
        **options: Unpack[StepKeywords],
    ) -> StepDecorator[[A, B, C, D, E]]: ...
    @overload
    def step(
        self,
        a: Node[A],
        b: Node[B],
        c: Node[C],
        d: Node[D],
        e: Node[E],
        f: Node[F],
        /,
        **options: Unpack[StepKeywords],
    ) -> StepDecorator[[A, B, C, D, E, F]]: ...
    @overload
    def step(
        self,
        a: Node[A],
        b: Node[B],
        c: Node[C],
        d: Node[D],
        e: Node[E],
        f: Node[F],
        g: Node[G],
        /,
        **options: Unpack[StepKeywords],
    ) -> StepDecorator[[A, B, C, D, E, F, G]]: ...
    @overload
    def step(
        self,
        a: Node[A],
        b: Node[B],
        c: Node[C],
        d: Node[D],
        e: Node[E],
        f: Node[F],
        g: Node[G],
        h: Node[H],
        /,
        **options: Unpack[StepKeywords],
    ) -> StepDecorator[[A, B, C, D, E, F, G, H]]: ...
    # Nine or more nodes, not any number: if a node's type has an Any in it, mypy would find this
    # overload as good as the others, and check nothing.
    @overload
    def step(
        self,
        a: Node[Any],
        b: Node[Any],
        c: Node[Any],
        d: Node[Any],
        e: Node[Any],
        f: Node[Any],
        g: Node[Any],
        h: Node[Any],
        i: Node[Any],
        /,
        *more: Node[Any],
        **options: Unpack[StepKeywords],
    ) -> StepDecorator[...]: ...
    def step(
        self,
        *nodes: Any,
        slug: str | None = None,
        media_type: str | None = None,
        by_element: bool = False,
        cpu_bound: bool = False,
        **options: int | None,
    ) -> StepDecorator[...]:
        """Make the decorated function a step of this flow.

        An ``async def`` runs in trio, a plain function runs in a thread. The decorated function
        can still be called, as in a unit test.

        The output of the step is what the function returns. An ``async def`` that yields bytes
        streams its output. The output of a function that returns a `Path` is the content of that
        file.

        Args:
            *nodes: Where the arguments of the handler come from, one node for each parameter:
                `input`, `context`, or an earlier step. The step starts when the named steps are
                completed. If none is named, it starts with the run. Type checkers compare up to
                eight nodes with the parameters.
            slug: The name of the step in the database: 1 to 128 letters (A to Z), digits and
                underscores, not beginning with a digit, and not ``run``. The default is the name
                of the function.
            media_type: The media type of the output, such as ``text/html``. It is stored with the
                output.
            by_element: Whether a list is stored by its elements, so that a later step can read
                one element alone.
            cpu_bound: Whether the handler runs in a process of its own. It must be a plain
                function at the top of a module, and takes no context and no handles. Needs the
                extra ``cpu``.
            **options: The fields of `StepOptions`. None takes the flow's option.

        Raises:
            DefinitionError: The step is not valid. The message names it and lists every fault.
                Most faults are raised when the decorator is applied.
        """
        if len(nodes) == 1 and isinstance(nodes[0], FunctionType):
            # Otherwise ``@flow.step`` without parentheses would drop the function silently.
            name = nodes[0].__name__
            fault = f"{name} is a function, not a node: decorate it with @flow.step(...)"
            _refuse(f"flow {self.slug!r}, step {slug or name!r}", [fault])
        faults = [
            *name_faults(options, _STEP_OPTIONS),
            *kind_faults(media_type, by_element=by_element, cpu_bound=cpu_bound),
        ]
        known = StepOptions(**{name: options[name] for name in _OPTIONS if name in options})
        new_step = functools.partial(
            StepFunction[..., Any, Any],
            media_type=media_type,
            by_element=by_element,
            cpu_bound=cpu_bound,
        )
        return StepDecorator(
            functools.partial(self._define, new_step, nodes, slug, known, faults=faults)
        )

    def _define(
        self,
        new_step: Callable[..., StepFunction[P, Any, Any]],
        nodes: tuple[Any, ...],
        slug: str | None,
        options: StepOptions,
        handler: Callable[P, Any],
        *,
        faults: Iterable[str],
    ) -> StepFunction[P, Any, Any]:
        name: str = getattr(handler, "__name__", "") if slug is None else slug
        faults = chain(
            faults,
            slug_faults(name, taken=self._steps, is_name=slug is None),
            node_faults(nodes, self),
            handler_faults(handler, len(nodes)),
            range_faults(set_options(options)),
        )
        where = f"flow {self.slug!r}, step {quoted(name)}"
        _refuse(where, faults)
        _refuse(where, handle_faults(handler, nodes))
        step = new_step(self, name, nodes, handler, options)
        if step.cpu_bound:
            _refuse(where, process_faults(step))
        # Without the function's own attributes, which could hide those of a step.
        functools.update_wrapper(step, handler, updated=())
        self._steps[name] = step
        return step

    def definition(self) -> dict[str, Any]:
        """Return the flow as ``pgflow.define_flow`` takes it: its options, its steps in order."""
        return {
            "flow_slug": self.slug,
            **asdict(self.options),
            "steps": [
                {
                    "step_slug": step.slug,
                    "deps_slugs": list(step.dependencies),
                    "loads": [node.slug for node in step.nodes if isinstance(node, ValueNode)],
                    **asdict(step.options),
                }
                for step in self._steps.values()
            ],
        }


def set_options(options: StepOptions) -> dict[str, int]:
    """The options that are not None."""
    return {name: value for name in _OPTIONS if (value := getattr(options, name)) is not None}


def _refuse(where: str, faults: Iterable[str]) -> None:
    if listed := "; ".join(faults):
        raise DefinitionError(f"{where}: {listed}")
