"""From a value to stored bytes and back.

    value ── serialize ──> Inline (the JSON, small) or Payload
    value <── parse ── Payload

    bytes of a payload ── pack ──> what is stored ── unpack ──> the same bytes

A payload is what stays in memory and in the cache.
"""

import gc
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
import zstandard

from blobstore import utf8
from blobstore.abc import Compressor
from blobstore.errors import BlobDamaged
from blobstore.refusals import refusal
from blobstore.values import check_size, examine, holds_nul, to_json

if TYPE_CHECKING:
    from blobstore.places import Place

ZSTD_LEVEL = 3

LONG_JSON = 256 * 1024  # bytes

PREVIEW = 40  # characters: a small blob should not be mostly that

Bytes = bytes | memoryview

KINDS = frozenset({"text", "bytes", "json"})


@dataclass(frozen=True, slots=True)
class Inline:
    """A value small and plain enough to stand in a jsonb column.

    Attributes:
        json: The value as JSON.
    """

    json: bytes


@dataclass(frozen=True, slots=True)
class Payload:
    """A value in the form that is cheap to keep and cannot be changed.

    Attributes:
        kind: `text`, `bytes` or `json`.
        data: The str or the bytes themselves; for `json` the JSON, since each reader
            of a list or dict must get one of its own.
        place: What it stood for where it came from sealed; None if that was in clear.
    """

    kind: str
    data: str | bytes
    place: "Place | None" = None

    def size(self, cap: int) -> int:
        """How many bytes are stored.

        Raises:
            ValueRefused: A text with a lone surrogate.
            ValueTooLarge: More bytes than `cap`.
        """
        check_size(len(self.data), cap)  # characters first: no gigabyte is read to be refused
        size = sum(map(len, self.pieces()))
        check_size(size, cap)
        return size

    def pieces(self) -> Iterator[bytes]:
        """The bytes that are stored, from the beginning at each call.

        Raises:
            ValueRefused: A text with a lone surrogate.
        """
        if isinstance(self.data, bytes):
            yield self.data
            return
        try:
            yield from utf8.pieces(self.data)
        except UnicodeEncodeError:
            raise refusal(self.data) from None

    def chunks(self, size: int) -> Iterator[bytes | memoryview]:
        """The same in chunks of `size` bytes, the last one shorter."""
        if isinstance(self.data, str):
            return utf8.chunks(self.data, size)
        view = memoryview(self.data)
        return (view[start : start + size] for start in range(0, len(view), size))

    def sha256(self) -> bytes:
        """The digest of what is stored; raises as :meth:`pieces` does."""
        digest = sha256()
        for piece in self.pieces():
            digest.update(piece)
        return digest.digest()


def preview_of(kind: str, head: Bytes) -> str | None:
    """The first characters of a text or JSON."""
    if kind == "bytes":
        return None
    return bytes(head[: 4 * PREVIEW]).decode("utf-8", "ignore")[:PREVIEW].replace("\0", "\ufffd")


class _Contexts(threading.local):
    # A compressor shared by two threads crashes the process, a shared decompressor
    # returns wrong bytes.
    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True)
        self.decompressor = zstandard.ZstdDecompressor()


_contexts = _Contexts()


def compress(pieces: Iterable[bytes | memoryview], size: int) -> bytes:
    """Make a zstd frame with a checksum, of pieces that are so many bytes together."""
    pieces = iter(pieces)
    first = next(pieces, b"")
    if len(first) == size:  # in one go: half the memory, and a sixth of the time less
        return _contexts.compressor.compress(first)
    frame = _contexts.compressor.compressobj(size=size)
    return b"".join([*map(frame.compress, chain([first], pieces)), frame.flush()])


def decompress(content: bytes, raw_size: int) -> bytes:
    """Read a zstd frame of so many bytes.

    Raises:
        ValueError: It is damaged or has another size; told before memory is taken for it.
    """
    try:
        # The library believes the frame over its own max_output_size.
        declared = zstandard.frame_content_size(content)
        if declared != raw_size:
            raise ValueError(f"its frame declares {declared:,} bytes, not {raw_size:,}")
        return _contexts.decompressor.decompress(content, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


def pack(payload: Payload, size: int, dictionary: Compressor | None = None) -> tuple[str, bytes]:
    """Give the codec, `none` or `zstd`, and what to store.

    Args:
        payload: What has the bytes.
        size: How many.
        dictionary: What to compress with.
    """
    if dictionary:
        content = dictionary.compress(b"".join(payload.pieces()))
    else:
        content = compress(payload.pieces(), size)
    return ("zstd", content) if len(content) < size else ("none", b"".join(payload.pieces()))


def unpack(
    codec: str, content: bytes, raw_size: int, dictionary: Compressor | None = None
) -> bytes:
    """Give the bytes that were packed.

    Raises:
        ValueError: They are damaged, or of a codec that this release does not know.
    """
    if codec not in {"none", "zstd"}:
        raise ValueError(f"its codec is {codec[:40]!r}: was it written by a newer release?")
    if codec == "zstd":
        content = (dictionary.decompress if dictionary else decompress)(content, raw_size)
    if len(content) != raw_size:
        raise ValueError(f"it has {len(content):,} bytes, not {raw_size:,}")
    return content


def serialize(value: object, *, threshold: int, cap: int) -> Inline | Payload:
    """Decide in what form a value is kept.

    Args:
        value: What a handler returned.
        threshold: Bytes of JSON up to which a value is kept inline, if jsonb can hold
            it exactly; -1 for none.
        cap: Bytes a value may have.

    Raises:
        ValueRefused: It could not come back as it was.
        ValueTooLarge: It is larger than `cap`.
    """
    if type(value) is bytes:
        return Payload("bytes", value)
    if type(value) is str and len(value) > threshold:
        return Payload("text", value)
    jsonb_exact = examine(value, cap)
    encoded = to_json(value, cap)
    if len(encoded) <= threshold and jsonb_exact and not holds_nul(encoded):
        return Inline(encoded)
    return Payload("text", value) if type(value) is str else Payload("json", encoded)


def restore(blob_id: UUID, kind: str, raw: bytes) -> Payload:
    """Make a payload of the bytes that were stored.

    Raises:
        BlobDamaged: They are no text, or of a kind that this release does not know.
    """
    if kind not in KINDS:
        raise BlobDamaged(blob_id, f"its kind is {kind[:40]!r}: was it written by a newer release?")
    try:
        return Payload(kind, utf8.decode(raw) if kind == "text" else raw)
    except UnicodeDecodeError as error:
        # Its own words quote a byte.
        raise BlobDamaged(blob_id, f"it is not UTF-8 at byte {error.start:,}") from None


def parse(blob_id: UUID, payload: Payload) -> Any:
    """Give the value of a payload; a list or dict is a new one each time.

    Raises:
        BlobDamaged: It is JSON that this release cannot read.
    """
    if payload.kind != "json":
        return payload.data
    # The collector would look at all that is made, again and again: a third of the time is left.
    # Nothing else runs meanwhile, since orjson keeps the interpreter to itself.
    pausing = len(payload.data) > LONG_JSON and gc.isenabled()
    try:
        if pausing:
            gc.disable()
        return orjson.loads(payload.data)
    except orjson.JSONDecodeError as error:
        raise BlobDamaged(blob_id, f"its JSON cannot be read: {error.msg}") from error
    finally:
        if pausing:
            gc.enable()
