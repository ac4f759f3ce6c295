"""What the objects of a JSON take in memory, before they are made.

A list that holds nothing takes two bytes of JSON and 64 of memory, and millions of them take no
room when they are compressed. So it is not enough to count bytes.
"""

import re

from blobstore.errors import ValueTooLarge

# Bytes of memory for a dict, a list, a place in one, and half of what a text takes beside its
# characters. By CPython 3.11 and orjson, no shape was found that takes a tenth more than that.
DICT, LIST, PLACE, QUOTE = 128, 64, 48, 12

# Bytes; some million dicts of three numbers, or eleven million numbers.
MOST = 512 * 1024 * 1024

# JSON of fewer bytes never weighs as much: the most for its length is a list of empty dicts.
LIGHT = MOST * len(b"{},") // (DICT + PLACE)

TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')


def check_weight(encoded: bytes) -> None:
    """Refuse JSON that would become too many objects.

    Raises:
        ValueTooLarge: They would take more than 512 MiB, the characters of texts not counted.
    """
    # What looks like a container may stand in a text: pages have many of them.
    if len(encoded) <= LIGHT or weight(encoded) <= MOST:
        return
    if (heavy := weight(TEXT.sub(b'""', encoded))) > MOST:
        raise ValueTooLarge(
            f"$ takes {len(encoded):,} bytes of JSON and {heavy:,} as objects of Python, the cap"
            f" of these is {MOST:,}: keep it as text or bytes, or in several values"
        )


def weight(encoded: bytes) -> int:
    """Bytes of memory, by what can be counted fast."""
    places = encoded.count(b",") + encoded.count(b":")
    containers = DICT * encoded.count(b"{") + LIST * encoded.count(b"[")
    return containers + PLACE * places + QUOTE * encoded.count(b'"')
