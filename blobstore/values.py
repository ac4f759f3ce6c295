"""The value contract: what comes back exactly as it was, and what is refused.

A value is walked before orjson writes it, because orjson changes some values without
a word (a tuple to a list, NaN to null, an Enum to its value). This walk only says yes
or no; where it says no, a slower one in `refusal` finds the place.
"""

from collections.abc import Iterator
from math import copysign, isfinite
from typing import Any

import orjson

from blobstore.errors import ValueTooLarge
from blobstore.refusals import MAX_DEPTH, refusal
from blobstore.weight import check_weight

# Walking a node takes about 0.1 µs: beyond this many the walk belongs in a thread.
WIDE = 4096

# From here on jsonb prints a float without a point, and it comes back as an int.
JSONB_FLOAT_LIMIT = 1e16

LEAVES = frozenset({bool, int, type(None)})


def examine(value: object, cap: int) -> bool:
    """Walk a value and refuse what JSON does not have.

    Left to :func:`to_json`, where orjson does it faster: keys, the range of integers,
    lone surrogates.

    Args:
        value: Any value, but not bytes.
        cap: Bytes its JSON may have.

    Returns:
        Whether jsonb can hold all its floats exactly.

    Raises:
        ValueRefused: A type, a float or a depth that JSON does not have.
        ValueTooLarge: The JSON would be larger than `cap`. Told before it is written, or
            else one page that a list holds a thousand times would fill the memory.
    """
    jsonb_exact = True
    size = 0
    trail: list[Iterator[Any]] = [iter((value,))]
    while trail:
        for item in trail[-1]:
            kind = type(item)
            if kind is str:
                size += len(item)
            elif kind is list or kind is dict:
                size += 2 * len(item)
                check_size(size, cap)
                if len(trail) > MAX_DEPTH:
                    raise refusal(value)
                trail.append(iter(item if kind is list else item.values()))
                break
            elif kind is float:
                if not isfinite(item):
                    raise refusal(value)
                if abs(item) >= JSONB_FLOAT_LIMIT or (item == 0 and copysign(1, item) < 0):
                    jsonb_exact = False
            elif kind not in LEAVES:
                raise refusal(value)
        else:
            trail.pop()
    check_size(size, cap)
    return jsonb_exact


def to_json(value: object, cap: int) -> bytes:
    """Write a value that was examined.

    Args:
        value: Any value, but not bytes.
        cap: Bytes the JSON may have.

    Raises:
        ValueRefused: A key, an integer or a text that JSON does not have.
        ValueTooLarge: The JSON is larger than `cap`, or no reader could hold it.
    """
    try:
        encoded = orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise refusal(value, str(error)) from None
    check_size(len(encoded), cap)
    check_weight(encoded)
    return encoded


def check_size(size: int, cap: int) -> None:
    """Raise `ValueTooLarge` for more bytes than the cap."""
    if size > cap:
        raise ValueTooLarge(f"$ takes {size:,} bytes or more, the cap is {cap:,}")


def holds_nul(encoded: bytes) -> bool:
    """Whether this JSON has U+0000 in a text or a key, which jsonb refuses."""
    # A doubled backslash is a backslash: the text "\u0000" is no NUL.
    return b"\\u0000" in encoded.replace(b"\\\\", b"")


def is_wide(value: object) -> bool:
    """Whether walking this value takes so long that it belongs in a thread."""
    nodes: list[Any] = [value]
    for node in nodes:
        kind = type(node)
        if kind is list or kind is dict:
            if len(nodes) + len(node) > WIDE:
                return True
            nodes.extend(node if kind is list else node.values())
    return False
