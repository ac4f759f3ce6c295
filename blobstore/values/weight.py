"""Estimates the memory that the objects of a JSON will take, before they are made.

An empty list takes two bytes of JSON and 64 bytes of memory, and compression makes millions of them
tiny. So to count bytes is not enough.
"""

import re

from blobstore.errors import ValueTooLarge

# Bytes of memory for a dict, for a list, for a place in one of them, and half of the overhead of a
# text. With CPython 3.11 and orjson, no value was found that takes a tenth more than the estimate.
DICT, LIST, PLACE, QUOTE = 128, 64, 48, 12

# Bytes: about a million dicts of three numbers, or eleven million numbers.
MOST = 512 * 1024 * 1024

# Shorter JSON never weighs that much: for its length, a list of empty dicts weighs the most.
LIGHT = MOST * len(b"{},") // (DICT + PLACE)

TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
# In a text that matches FOUR, each character takes four bytes; in one that matches TWO, two.
FOUR = re.compile(rb"[\xf0-\xf4]|\\u[dD][89abAB]")
TWO = re.compile(rb"[\xc4-\xef]|\\u")


def check_weight(encoded: bytes) -> None:
    """Refuse JSON that would become too many objects.

    Raises:
        ValueTooLarge: The objects would take more than 512 MiB, plus the length of the JSON.
    """
    if len(encoded) > LIGHT:
        Scale().add(encoded)


class Scale:
    """Weighs the JSON of the parts of one value together."""

    def __init__(self) -> None:
        self._bytes = self._weight = 0

    def add(self, encoded: bytes) -> None:
        """Add the JSON of a part.

        Raises:
            ValueTooLarge: All parts together weigh too much.
        """
        self._bytes += len(encoded)
        # Brackets may be part of a text, as in pages: count again without texts before refusing.
        heavy = weight(encoded) + widest(encoded)
        if self._weight + heavy > MOST:
            heavy = weight(TEXT.sub(b'""', encoded)) + sum(map(widest, TEXT.findall(encoded)))
        self._weight += heavy
        if self._weight > MOST:
            raise ValueTooLarge(
                f"$ takes {self._bytes:,} bytes as JSON and {self._weight:,} as Python objects,"
                f" whose cap is {MOST:,}: keep it as text or bytes, or split it into several values"
            )


def widest(encoded: bytes) -> int:
    """Return how many bytes the characters take beyond the JSON's length, if all are one text."""
    if encoded.isascii() and b"\\u" not in encoded:
        return 0
    return len(encoded) * (3 if FOUR.search(encoded) else 1 if TWO.search(encoded) else 0)


def weight(encoded: bytes) -> int:
    """Estimate the bytes of memory without the characters, from fast counts."""
    places = encoded.count(b",") + encoded.count(b":")
    containers = DICT * encoded.count(b"{") + LIST * encoded.count(b"[")
    return containers + PLACE * places + QUOTE * encoded.count(b'"')
