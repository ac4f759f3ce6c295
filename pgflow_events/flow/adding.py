"""Adds a step to its flow, if nothing is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import update_wrapper
from itertools import chain
from typing import Any

from pgflow_events.errors import DefinitionError
from pgflow_events.flow.decorators import LossyKeywords
from pgflow_events.flow.nodes import EachNode, FlowLike, Node, ValueNode
from pgflow_events.flow.option_faults import kind_faults, name_faults, quoted, range_faults
from pgflow_events.flow.options import StepOptions
from pgflow_events.flow.rule_faults import condition_faults, rule_faults
from pgflow_events.flow.rules import Rules
from pgflow_events.flow.step import SkippableFunction, Step, StepFunction
from pgflow_events.flow.step_faults import (
    handle_faults,
    handler_faults,
    node_faults,
    process_faults,
    slug_faults,
)

OPTIONS = tuple(field.name for field in fields(StepOptions))
_KEYWORDS = tuple(LossyKeywords.__annotations__)


@dataclass(frozen=True, slots=True)
class Making:
    """What only the worker knows of a step: how it stores the output, and where it computes."""

    media_type: str | None
    by_element: bool
    cpu_bound: bool


def define_step(  # noqa: PLR0917 - what Flow.step was told
    flow: FlowLike,
    steps: dict[str, Step[Any]],
    nodes: tuple[Any, ...],
    slug: str | None,
    making: Making,
    rules: Rules,
    options: Mapping[str, Any],
    handler: Callable[..., Any],
) -> StepFunction[..., Any, Any] | SkippableFunction[..., Any, Any]:
    """Make a handler a step of a flow, and add it to the steps.

    Raises:
        DefinitionError: The step is not valid.
    """
    name: str = getattr(handler, "__name__", "") if slug is None else slug
    known = StepOptions(**{name: options[name] for name in OPTIONS if name in options})
    faults = chain(
        name_faults(options, _KEYWORDS),
        kind_faults(making.media_type, by_element=making.by_element, cpu_bound=making.cpu_bound),
        slug_faults(name, taken=steps, is_name=slug is None),
        node_faults(nodes, flow),
        handler_faults(handler, len(nodes)),
        range_faults(set_options(known) | rules.delay),
        rule_faults(rules, is_map=bool(nodes) and isinstance(nodes[0], EachNode)),
    )
    where = f"flow {flow.slug!r}, step {quoted(name)}"
    refuse(where, faults)
    given = tuple(node.node if isinstance(node, EachNode) else node for node in nodes)
    step = StepFunction[..., Any, Any](
        flow, name, given, handler, known, rules=rules, **asdict(making)
    )
    refuse(where, chain(handle_faults(handler, given), condition_faults(rules, step)))
    if step.cpu_bound:
        refuse(where, process_faults(step))
    _tell_origins(step)
    steps[name] = step
    return _wrapped(step, handler)


def refuse(where: str, faults: Iterable[str]) -> None:
    """Raise a `DefinitionError` if there is a fault."""
    if listed := "; ".join(faults):
        raise DefinitionError(f"{where}: {listed}")


def set_options(options: StepOptions) -> dict[str, Any]:
    """The options that are not None."""
    return {name: value for name in OPTIONS if (value := getattr(options, name)) is not None}


def _tell_origins(step: Step[Any]) -> None:
    """Let the values that this step looks at know it."""
    if step.is_map:
        _value(step.nodes[0]).feeds_map = True
    for word, condition in step.rules.conditions.items():
        for part in condition.parts:
            watchers = _value(part.node).watchers
            watchers[step.slug] = {**watchers.get(step.slug, {}), word: part.pattern}


def _value(node: Node[Any]) -> ValueNode[Any]:
    origin = node.origin
    assert isinstance(origin, ValueNode)  # noqa: S101 - others were refused
    return origin


def _wrapped(
    step: StepFunction[..., Any, Any], handler: Callable[..., Any]
) -> StepFunction[..., Any, Any] | SkippableFunction[..., Any, Any]:
    # Without the function's own attributes, which could hide those of a step.
    update_wrapper(step, handler, updated=())
    if not step.may_be_skipped:
        return step
    skippable = SkippableFunction[..., Any, Any](step)
    update_wrapper(skippable, handler, updated=())
    return skippable
