"""Whether values contain patterns, as PostgreSQL's `jsonb @>` has it.

SQL looks at the values that it can read. Of a blob, which it cannot, the worker that made the value
says what it contains.
"""

from __future__ import annotations

from collections.abc import Hashable
from decimal import Decimal
from pathlib import Path
from typing import Any

from blobstore import Blob
from pgflow_events.flow.nodes import ValueNode

Facts = dict[str, dict[str, bool]]


def facts(node: ValueNode[Any], value: object) -> Facts | None:
    """Say which patterns a value contains, of those that conditions look for in it.

    It takes longer, the larger the lists are that the patterns look into: for a wide value, call
    it in a thread.

    Args:
        node: A step, or the input of a flow.
        value: What the handler returned.

    Returns:
        By the step that is to run, whether the value contains what is ``required`` and what is
        ``forbidden``. None if no condition looks at the value, or if it is not at hand: for a
        handle, a file or a stream. If the node has `watchers`, read such a value, and ask again.
    """
    if not node.watchers or isinstance(value, (Path, Blob)) or hasattr(value, "__anext__"):
        return None
    return {
        slug: {word: contains(value, pattern) for word, pattern in patterns.items()}
        for slug, patterns in node.watchers.items()
    }


def contains(value: object, pattern: Any) -> bool:
    """Whether a value contains a pattern. A text in a list is not contained in the list itself."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(
            key in value and contains(value[key], part) for key, part in pattern.items()
        )
    if isinstance(pattern, list):
        return isinstance(value, list) and _has_all(value, pattern)
    return _scalar(value) == _scalar(pattern)


def _has_all(values: list[Any], patterns: list[Any]) -> bool:
    parts = [part for part in patterns if isinstance(part, (dict, list))]
    missing = {_scalar(part) for part in patterns if not isinstance(part, (dict, list))}
    if missing:
        missing.difference_update(map(_scalar, values))
    return not missing and all(any(contains(value, part) for value in values) for part in parts)


def _scalar(value: object) -> Hashable:
    """What is equal for two values that are equal in jsonb. What JSON has not is equal to nothing.

    A bool is no number there, so numbers are marked. A float is the decimal that JSON writes.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, float):
        return Decimal, Decimal(repr(value))
    return (Decimal, Decimal(value)) if isinstance(value, int) else object()
