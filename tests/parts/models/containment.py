"""What `jsonb @> jsonb` says, once more, and whether a step runs by its conditions."""

from typing import Any


def contains(value: Any, pattern: Any) -> bool:
    """Whether a value contains a pattern, as one that is nested in an object does."""
    match pattern:
        case dict():
            return isinstance(value, dict) and all(
                key in value and contains(value[key], part) for key, part in pattern.items()
            )
        case list():
            return isinstance(value, list) and all(
                any(contains(each, part) for each in value) for part in pattern
            )
    return kind(value) == kind(pattern) and value == pattern


def kind(value: Any) -> str:
    """The type of a JSON value: true is no number."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
    return "array" if isinstance(value, list) else "object"


def is_met(data: Any, required: Any, forbidden: Any) -> bool:
    """Whether a step with these conditions runs; None: it has no such condition."""
    return (required is None or contains(data, required)) and not (
        forbidden is not None and contains(data, forbidden)
    )
