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
# In a text with one of the first, each character takes four bytes, with one of the second two.
FOUR = re.compile(rb"[\xf0-\xf4]|\\u[dD][89abAB]")
TWO = re.compile(rb"[\xc4-\xef]|\\u")


def check_weight(encoded: bytes) -> None:
    """Refuse JSON that would become too many objects.

    Raises:
        ValueTooLarge: They would take more than 512 MiB, beside a byte for each of the JSON.
    """
    if len(encoded) > LIGHT:
        Scale().add(encoded)


class Scale:
    """Weighs JSON that becomes one value together."""

    def __init__(self) -> None:
        self._bytes = self._weight = 0

    def add(self, encoded: bytes) -> None:
        """Put it to the rest.

        Raises:
            ValueTooLarge: It is too much.
        """
        self._bytes += len(encoded)
        # What looks like a container may stand in a text: pages have many of them.
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
    """Bytes that the characters take beyond one for each byte, if all stand in one text."""
    if encoded.isascii() and b"\\u" not in encoded:
        return 0
    return len(encoded) * (3 if FOUR.search(encoded) else 1 if TWO.search(encoded) else 0)


def weight(encoded: bytes) -> int:
    """Bytes of memory but for characters, by what can be counted fast."""
    places = encoded.count(b",") + encoded.count(b":")
    containers = DICT * encoded.count(b"{") + LIST * encoded.count(b"[")
    return containers + PLACE * places + QUOTE * encoded.count(b'"')
