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

from collections.abc import Mapping
from dataclasses import asdict
from itertools import chain
from types import MappingProxyType
from typing import Any, Generic, TypeVar, overload

from pgflow_events.flow.adding import OPTIONS, refuse, set_options
from pgflow_events.flow.making import StepMaker
from pgflow_events.flow.option_faults import input_faults, name_faults, quoted, range_faults
from pgflow_events.flow.step import Context, Node, OptionalNode, Step, StepOptions, ValueNode
from pgflow_events.flow.step_faults import slug_faults

__all__ = ["Context", "Flow", "Node", "Step", "StepOptions"]

In = TypeVar("In")

# A flow's slug is also the name of its queue, and pgmq takes no longer names.
_LONGEST_FLOW_SLUG = 47
_FLOW_OPTIONS = ("input", *OPTIONS)
_LOADED = (ValueNode, OptionalNode)


class Flow(StepMaker, Generic[In]):
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
        must = {name: getattr(options, name) for name in OPTIONS if name != "keep_output"}
        faults = chain(
            slug_faults(slug, longest=_LONGEST_FLOW_SLUG),
            (f"{quoted(value)} needs the name of an option before it" for value in surplus),
            name_faults(unknown, _FLOW_OPTIONS),
            input_faults(input),
            range_faults(must | set_options(options)),
        )
        refuse(f"flow {quoted(slug)}", faults)
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

    @property
    def feeds_map(self) -> bool:
        """Whether a map goes over the input."""
        return self.input.feeds_map

    def definition(self) -> dict[str, Any]:
        """Return the flow as ``pgflow.define_flow`` takes it: its options, its steps in order."""
        return {
            "flow_slug": self.slug,
            **asdict(self.options),
            "steps": [_step_definition(step) for step in self._steps.values()],
        }


def _step_definition(step: Step[Any]) -> dict[str, Any]:
    return {
        "step_slug": step.slug,
        "deps_slugs": list(step.dependencies),
        "loads": [node.slug for node in step.nodes if isinstance(node, _LOADED)],
        **asdict(step.options),
        **({"step_type": "map"} if step.is_map else {}),
        **step.rules.definition(is_root=not step.dependencies),
    }
