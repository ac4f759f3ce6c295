"""Converts long texts to UTF-8 and back, in pieces.

CPython copies plain ASCII, and converts other text character by character. In pieces, only those
that are not ASCII are slow. Also, a text that is compressed in pieces is never a second time in
memory: to get 3 MB from the kernel can take as long as to compress them.
"""

from codecs import getincrementaldecoder
from collections.abc import Iterator
from io import BytesIO

PIECE = 64 * 1024  # characters, or bytes

Decoder = getincrementaldecoder("utf-8")


def pieces(text: str) -> Iterator[bytes]:
    """Yield the bytes of a text in pieces.

    Raises:
        UnicodeEncodeError: The text has a lone surrogate. The error counts from its piece.
    """
    return (text[start : start + PIECE].encode() for start in range(0, len(text), PIECE))


def chunks(text: str, size: int) -> Iterator[bytes]:
    """Yield the bytes of a text in chunks of `size` bytes, the last one shorter."""
    gathered = BytesIO()
    for piece in pieces(text):
        view = memoryview(piece)
        while len(view) >= (missing := size - gathered.tell()):
            gathered.write(view[:missing])
            yield gathered.getvalue()  # not a copy, because nothing is written after it
            gathered, view = BytesIO(), view[missing:]
        gathered.write(view)
    if gathered.tell():
        yield gathered.getvalue()


def decode(raw: bytes) -> str:
    """Do the same as ``raw.decode()``.

    Raises:
        UnicodeDecodeError: The bytes are not UTF-8. The error counts from about its piece.
    """
    if raw.isascii():  # copied in one call
        return raw.decode()
    decoder, view = Decoder(), memoryview(raw)
    starts = range(0, len(raw), PIECE)
    decoded = [decoder.decode(view[start : start + PIECE]) for start in starts]
    return "".join([*decoded, decoder.decode(b"", final=True)])
