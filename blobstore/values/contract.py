"""The value contract: which values come back exactly as they were, and which are refused.

A value is checked before orjson writes it, because orjson silently changes some values (a tuple to
a list, NaN to null, an Enum to its value). This walk only finds out whether there is a fault. Then
a slower walk in `refusal` finds its place.
"""

from collections.abc import Iterator
from math import copysign, isfinite
from typing import Any

import orjson

from blobstore.errors import ValueTooLarge
from blobstore.values.refusals import MAX_DEPTH, refusal
from blobstore.values.weight import check_weight

# What a brief value has at most: characters of text, and as many again for each place in a list or
# dict. To write it takes less than the turn of the event loop that it would wait for.
BRIEF, PER_PLACE = 1000, 16

# Nodes. A node takes about 0.1 µs: a walk over more nodes belongs in a thread.
WIDE = 4096

# jsonb prints a float of this size or more without a point, and it comes back as an int.
JSONB_FLOAT_LIMIT = 1e16

LEAVES = frozenset({bool, int, type(None)})


def examine(value: object, cap: int) -> bool:
    """Walk a value, and refuse what JSON does not have.

    :func:`to_json` checks keys, the range of integers and lone surrogates, because orjson does
    that faster.

    Args:
        value: Any value except bytes.
        cap: The largest size of its JSON, in bytes.

    Returns:
        Whether jsonb can hold all its floats exactly.

    Raises:
        ValueRefused: The value has a type, a float or a depth that JSON does not have.
        ValueTooLarge: The JSON would be larger than `cap`. Raised before the JSON is written:
            otherwise a list that holds one page a thousand times would fill the memory.
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
    """Write a value as JSON, after :func:`examine`.

    Args:
        value: Any value except bytes.
        cap: The largest size of the JSON, in bytes.

    Raises:
        ValueRefused: The value has a key, an integer or a text that JSON does not have.
        ValueTooLarge: The JSON is larger than `cap`, or its objects take too much memory.
    """
    try:
        encoded = orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise refusal(value, str(error)) from None
    check_size(len(encoded), cap)
    check_weight(encoded)
    return encoded


def check_size(size: int, cap: int) -> None:
    """Raise `ValueTooLarge` if the size is larger than the cap."""
    if size > cap:
        raise ValueTooLarge(f"$ takes {size:,} bytes or more, the cap is {cap:,}")


def holds_nul(encoded: bytes) -> bool:
    """Whether this JSON has U+0000 in a text or a key, which jsonb refuses."""
    # A doubled backslash stands for a backslash: the text "\u0000" is not a NUL.
    return b"\\u0000" in encoded.replace(b"\\\\", b"")


def is_brief(value: object) -> bool:
    """Whether a value is of types that JSON has, and takes only microseconds to walk and write."""
    left = BRIEF
    nodes: list[Any] = [value]
    for node in nodes:
        kind = type(node)
        if kind is str:
            left -= len(node)
        elif kind is list or kind is dict:
            left -= PER_PLACE * len(node)
            if left >= 0:
                nodes.extend(node if kind is list else node.values())
        elif kind is not float and kind not in LEAVES:
            return False
        if left < 0:
            return False
    return True


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
