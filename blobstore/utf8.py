"""Long texts to UTF-8 and back, in pieces.

CPython converts plain ASCII by copying it, and else goes character by character: in pieces, only
those that are not ASCII take the long way. And a text that is compressed piece by piece never
stands in memory a second time: to take 3 MB afresh from the kernel can cost as much as to
compress them.
"""

from codecs import getincrementaldecoder
from collections.abc import Iterator
from io import BytesIO

PIECE = 64 * 1024  # characters, or bytes

Decoder = getincrementaldecoder("utf-8")


def pieces(text: str) -> Iterator[bytes]:
    """The bytes of a text, some at a time.

    Raises:
        UnicodeEncodeError: It has a lone surrogate; the place is counted from its piece.
    """
    return (text[start : start + PIECE].encode() for start in range(0, len(text), PIECE))


def chunks(text: str, size: int) -> Iterator[bytes]:
    """The bytes of a text in chunks of `size`, the last one shorter."""
    gathered = BytesIO()
    for piece in pieces(text):
        view = memoryview(piece)
        while len(view) >= (missing := size - gathered.tell()):
            gathered.write(view[:missing])
            yield gathered.getvalue()  # is no copy, as it is not written to any more
            gathered, view = BytesIO(), view[missing:]
        gathered.write(view)
    if gathered.tell():
        yield gathered.getvalue()


def decode(raw: bytes) -> str:
    """As ``raw.decode()``.

    Raises:
        UnicodeDecodeError: It is no UTF-8; the place is counted from near its piece.
    """
    if raw.isascii():  # copied in one go
        return raw.decode()
    decoder, view = Decoder(), memoryview(raw)
    starts = range(0, len(raw), PIECE)
    decoded = [decoder.decode(view[start : start + PIECE]) for start in starts]
    return "".join([*decoded, decoder.decode(b"", final=True)])
