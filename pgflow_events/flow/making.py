"""How a flow makes steps of functions."""

from __future__ import annotations

from functools import partial
from types import FunctionType
from typing import Any, Literal, Never, TypeVar, Unpack, overload

from pgflow_events.flow.adding import Making, define_step, refuse
from pgflow_events.flow.decorators import (
    Ex,
    If,
    LossyKeywords,
    StepDecorator,
    StepKeywords,
    Un,
)
from pgflow_events.flow.nodes import Condition, EachNode, First, Many, Node, One
from pgflow_events.flow.options import Context, StepOptions
from pgflow_events.flow.rules import Rules, Unmet
from pgflow_events.flow.step import Step

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
G = TypeVar("G")
H = TypeVar("H")
Kind = TypeVar("Kind")


class StepMaker:
    """What makes steps of functions, and keeps them: the part of a flow that is about its steps."""

    slug: str
    options: StepOptions
    context: Node[Context]
    _steps: dict[str, Step[Any]]

    @overload
    def step(
        self, /, **options: Unpack[StepKeywords[If, Un, Ex]]
    ) -> StepDecorator[[], One, Never, If, Un, Ex]: ...
    @overload
    def step(
        self, a: First[A, Kind], /, **options: Unpack[StepKeywords[If, Un, Ex]]
    ) -> StepDecorator[[A], Kind, Never, If, Un, Ex]: ...
    @overload
    def step(
        self, a: First[A, Kind], b: Node[B], /, **options: Unpack[StepKeywords[If, Un, Ex]]
    ) -> StepDecorator[[A, B], Kind, Never, If, Un, Ex]: ...
    @overload
    def step(
        self,
        a: First[A, Kind],
        b: Node[B],
        c: Node[C],
        /,
        **options: Unpack[StepKeywords[If, Un, Ex]],
    ) -> StepDecorator[[A, B, C], Kind, Never, If, Un, Ex]: ...
    @overload
    def step(
        self,
        a: Node[A],
        b: Node[B],
        c: Node[C],
        d: Node[D],
        /,
        **options: Unpack[StepKeywords[If, Un, Ex]],
    ) -> StepDecorator[[A, B, C, D], One, Never, If, Un, Ex]: ...
    @overload
    def step(
        self,
        a: Node[A],
        b: Node[B],
        c: Node[C],
        d: Node[D],
        e: Node[E],
        /,
        **options: Unpack[StepKeywords[If, Un, Ex]],
    ) -> StepDecorator[[A, B, C, D, E], One, Never, If, Un, Ex]: ...
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
        **options: Unpack[StepKeywords[If, Un, Ex]],
    ) -> StepDecorator[[A, B, C, D, E, F], One, Never, If, Un, Ex]: ...
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
        **options: Unpack[StepKeywords[If, Un, Ex]],
    ) -> StepDecorator[[A, B, C, D, E, F, G], One, Never, If, Un, Ex]: ...
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
        **options: Unpack[StepKeywords[If, Un, Ex]],
    ) -> StepDecorator[[A, B, C, D, E, F, G, H], One, Never, If, Un, Ex]: ...
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
        **options: Unpack[StepKeywords[If, Un, Ex]],
    ) -> StepDecorator[..., One, Never, If, Un, Ex]: ...
    # A map that may lose elements.
    @overload
    def step(
        self, a: EachNode[A], /, **options: Unpack[LossyKeywords[If, Un, Ex]]
    ) -> StepDecorator[[A], Many, None, If, Un, Ex]: ...
    @overload
    def step(
        self, a: EachNode[A], b: Node[B], /, **options: Unpack[LossyKeywords[If, Un, Ex]]
    ) -> StepDecorator[[A, B], Many, None, If, Un, Ex]: ...
    @overload
    def step(
        self,
        a: EachNode[A],
        b: Node[B],
        c: Node[C],
        /,
        **options: Unpack[LossyKeywords[If, Un, Ex]],
    ) -> StepDecorator[[A, B, C], Many, None, If, Un, Ex]: ...
    def step(
        self,
        *nodes: Any,
        slug: str | None = None,
        media_type: str | None = None,
        by_element: bool = False,
        cpu_bound: bool = False,
        run_if: Condition | None = None,
        run_unless: Condition | None = None,
        unmet: Unmet | None = None,
        exhausted: Unmet | None = None,
        start_delay: int | None = None,
        lost: Literal["none"] | None = None,
        tolerate: float | None = None,
        **options: int | None,
    ) -> StepDecorator[..., Any, Any, Any, Any, Any]:
        """Make the decorated function a step of this flow.

        An ``async def`` runs in trio, a plain function runs in a thread. The decorated function
        can still be called, as in a unit test.

        The output of the step is what the function returns. An ``async def`` that yields bytes
        streams its output. The output of a function that returns a `Path` is the content of that
        file.

        A step whose first node is the ``each`` of a list is a map. Its handler is called for each
        element, and its output is the list of what the calls returned, in the order of the list.

        Args:
            *nodes: Where the arguments of the handler come from, one node for each parameter:
                `input`, `context`, or an earlier step. The step starts when the named steps are
                completed. If none is named, it starts with the run. Type checkers compare up to
                eight nodes with the parameters. A map names one ``each``, and beside it only
                `input` and `context`.
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
            run_if: A condition of a named step or of the input, such as
                ``page.contains({"lang": "en"})``. The step runs only if it holds when all named
                steps have ended.
            run_unless: A condition that must not hold then.
            unmet: What follows if the conditions keep the step from running. ``"skip"``, the
                default, leaves the step out. ``"skip-cascade"`` also leaves out all steps below
                it. ``"fail"`` fails the run.
            exhausted: What follows if no attempt is left: ``"fail"``, the default, or one of the
                other two.
            start_delay: Seconds, a whole number, that the first attempt waits.
            lost: With ``"none"``, a map goes on without the elements whose attempts all failed.
                Its output has None in their places.
            tolerate: The share of the elements that may be lost, 0 to 1. The default is 1. If
                more are lost, ``exhausted`` says what follows.
            **options: The fields of `StepOptions`. None takes the flow's option.

        Returns:
            A decorator. It makes a `Step` of the function, or a `SkippableStep` if a run may go
            on without it.

        Raises:
            DefinitionError: The step is not valid. The message names it and lists every fault.
                Most faults are raised when the decorator is applied.
        """
        if len(nodes) == 1 and isinstance(nodes[0], FunctionType):
            # Otherwise ``@flow.step`` without parentheses would drop the function silently.
            name = nodes[0].__name__
            fault = f"{name} is a function, not a node: decorate it with @flow.step(...)"
            refuse(f"flow {self.slug!r}, step {slug or name!r}", [fault])
        rules = Rules(run_if, run_unless, unmet, exhausted, start_delay, lost, tolerate)
        making = Making(media_type, by_element, cpu_bound)
        return StepDecorator(
            partial(define_step, self, self._steps, nodes, slug, making, rules, options)
        )
