"""Says why a value is refused: the place inside it, the reason, and what to give instead."""

from collections.abc import Iterator
from math import isfinite
from typing import Any

from blobstore.errors import ValueRefused
from blobstore.values.advice import KEPT, advice

MAX_DEPTH = 254
"""The deepest nesting of lists and dicts that orjson writes (it reads 1,024)."""

MOST_BITS = 10_000  # an integer of more bits may be too long for str()
CLEAN_KEYS = '{key.encode("utf-8", "replace").decode(): item for key, item in value.items()}'

PATH_LENGTH = 200
KEY_LENGTH = 40


def refusal(value: object, otherwise: str = "") -> ValueRefused:
    """Find what is wrong with a value.

    This walk has the order of the walk that found the fault. So it ends even if a value refers to
    one list a million times.

    Args:
        value: A value outside the contract.
        otherwise: The reason to give if no fault is found.
    """
    for path, node in _nodes(value):
        fault = _fault(node, len(path))
        if fault:
            return ValueRefused(f"{_printed(path)} {fault}")
    return ValueRefused(f"$ cannot be written as JSON: {otherwise}")


def _nodes(value: object) -> Iterator[tuple[list[int | str], Any]]:
    """Yield every node with its path, a parent before its children. The path list is reused."""
    path: list[int | str] = []
    yield path, value
    trail = [_children(value)]
    while trail:
        for step, node in trail[-1]:
            path.append(step)
            yield path, node
            if type(node) is list or type(node) is dict:
                trail.append(_children(node))
                break
            path.pop()
        else:
            trail.pop()
            del path[-1:]


def _children(node: Any) -> Iterator[tuple[int | str, Any]]:
    if type(node) is list:
        return iter(enumerate(node))
    return iter(node.items() if type(node) is dict else ())


def _fault(node: Any, depth: int) -> str | None:
    """Say what is wrong with this node and its keys, without its children."""
    kind = type(node)
    if kind not in KEPT:
        only = ", which may only be the whole value" if kind is bytes else ""
        return f"is of type {_type_name(kind)}{only}{_instead(advice(node, whole=depth == 0))}"
    if kind is str and (place := _lone_surrogate(node)) is not None:
        fault = f"has a lone surrogate at index {place}, which UTF-8 cannot encode"
        return fault + _instead('value.encode("utf-8", "replace").decode()')
    if kind is float and not isfinite(node):
        return f"is {node}, a number JSON does not have{_instead('None')}"
    if kind is int and not -(2**63) <= node < 2**64:
        text = "str(value)" if node.bit_length() < MOST_BITS else "hex(value)"
        return f"is an integer outside -2**63 to 2**64-1{_instead(text)}"
    if kind is list or kind is dict:
        return _container_fault(node, depth)
    return None


def _container_fault(node: list[Any] | dict[Any, Any], depth: int) -> str | None:
    if depth >= MAX_DEPTH:
        return f"is nested deeper than {MAX_DEPTH} levels (or does the value contain itself?)"
    for key in node if type(node) is dict else ():
        if type(key) is not str:
            fault = f"has a key of type {_type_name(type(key))}, {_clipped(key)}; keys must be str"
            return fault + _instead("{str(key): item for key, item in value.items()}")
        if _lone_surrogate(key) is not None:
            fault = f"has a lone surrogate in the key {_clipped(key)}"
            return fault + _instead(CLEAN_KEYS)
    return None


def _instead(expression: str | None) -> str:
    """Say what to give instead: the end of a refusal."""
    if expression:
        return f"; give `{expression}` instead"
    return "; give text or JSON made from it instead (docs/guide/values.md says what JSON may hold)"


def _lone_surrogate(text: str) -> int | None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


def _printed(path: list[int | str]) -> str:
    text = "$" + "".join(map(_step, path))
    if len(text) <= PATH_LENGTH:
        return text
    return f"{text[: PATH_LENGTH // 2]}…{text[-PATH_LENGTH // 2 :]}"


def _step(step: int | str) -> str:
    if isinstance(step, str) and step.isidentifier() and len(step) <= KEY_LENGTH:
        return f".{step}"
    return f"[{_clipped(step)}]"


def _clipped(key: object) -> str:
    """Return a key as short ASCII: a key may hold any character."""
    text = ascii(key)
    return text if len(text) <= KEY_LENGTH else f"{text[:KEY_LENGTH]}…"


def _type_name(kind: type) -> str:
    if kind.__module__ == "builtins":
        return kind.__name__
    return f"{kind.__module__}.{kind.__qualname__}"
