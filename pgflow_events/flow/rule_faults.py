"""What may be wrong with the rules of a step: its conditions, and what may be skipped or lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from blobstore import ValueRefused, ValueTooLarge
from blobstore.values.contract import examine, holds_nul, to_json
from pgflow_events.flow.nodes import Condition, ValueNode
from pgflow_events.flow.option_faults import quoted
from pgflow_events.flow.rules import ENDS, Rules
from pgflow_events.flow.step import Step

LONGEST_PATTERN = 8192  # bytes of JSON
_CONDITIONS = ("run_if", "run_unless")


def rule_faults(rules: Rules, *, is_map: bool) -> Iterator[str]:
    """Name the rules that have a wrong value, or that do not fit together."""
    for name in _CONDITIONS:
        value = getattr(rules, name)
        if value is not None and not isinstance(value, Condition):
            yield f"{name} is a condition such as page.contains({{...}}), not {quoted(value)}"
    for name in ("unmet", "exhausted"):
        yield from _word_faults(name, getattr(rules, name), ENDS)
    yield from _word_faults("lost", rules.lost, ("none",))
    yield from _share_faults(rules.tolerate)
    if rules.unmet is not None and rules.run_if is None and rules.run_unless is None:
        yield "unmet says what follows if a condition is not met: give run_if or run_unless too"
    if rules.tolerate is not None and rules.lost is None:
        yield "tolerate says how many elements may be lost: give lost='none' too"
    if rules.lost is not None and not is_map:
        yield "lost is for maps: a map names the each of a list first, such as links.each"


def condition_faults(rules: Rules, step: Step[Any]) -> Iterator[str]:
    """Say why the conditions of a step cannot be looked at when it is to start."""
    for name, condition in zip(_CONDITIONS, (rules.run_if, rules.run_unless), strict=True):
        if condition is not None:
            yield from (f"{name}: {fault}" for fault in _faults(condition, step))


def _faults(condition: Condition, step: Step[Any]) -> Iterator[str]:
    nodes = [part.node for part in condition.parts]
    for position, part in enumerate(condition.parts):
        yield from _part_faults(part, step)
        if part.node in nodes[:position]:
            yield f"it has two patterns of {part.node.slug}: write them as one"


def _part_faults(condition: Condition, step: Step[Any]) -> Iterator[str]:
    node = condition.node
    if node.flow is not step.flow:
        yield f"{quoted(node)} belongs to another flow"
    elif not isinstance(node, ValueNode):
        yield f"{node!r} has no value to look at: take a step, or the input"
    elif isinstance(node, Step):
        if node.slug not in step.dependencies:
            yield f"this step does not depend on {node.slug}: name it among the nodes"
        if node.is_map:
            yield f"{node.slug} is a map, and a condition is about one value: take another step"
        if node.is_stream:
            yield f"{node.slug} yields bytes, which contain no pattern: take a step that gives JSON"
    yield from _pattern_faults(condition.pattern)
    if not step.dependencies and not isinstance(condition.pattern, dict):
        yield (
            f"the pattern of a step without dependencies is a dict, not {quoted(condition.pattern)}"
        )


def _pattern_faults(pattern: Any) -> Iterator[str]:
    if isinstance(pattern, bytes):
        yield "a pattern is JSON, which has no bytes"
        return
    try:
        examine(pattern, LONGEST_PATTERN)
        encoded = to_json(pattern, LONGEST_PATTERN)
    except (ValueRefused, ValueTooLarge) as error:
        yield f"the pattern cannot be stored: {error}"
        return
    if holds_nul(encoded):
        yield "the pattern cannot be stored: PostgreSQL has no U+0000 in its texts"


def _word_faults(name: str, value: object, words: tuple[str, ...]) -> Iterator[str]:
    if value is not None and (type(value) is not str or value not in words):
        yield f"{name} is {' or '.join(map(repr, words))}, not {quoted(value)}"


def _share_faults(share: object) -> Iterator[str]:
    is_number = isinstance(share, (int, float)) and not isinstance(share, bool)
    if share is not None and not (is_number and 0 <= share <= 1):  # type: ignore[operator]  # it is one
        yield f"tolerate is a share from 0 to 1, not {quoted(share)}"
