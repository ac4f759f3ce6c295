"""Turns values into stored bytes, and back.

    value ── serialize ──> Inline (the JSON, small) or Payload
    value <── parse ── Payload

    bytes of a payload ── pack ──> what is stored ── unpack ──> the same bytes

Payloads are what memory and the cache hold.
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

from blobstore.abc import Compressor
from blobstore.errors import BlobDamaged
from blobstore.values import utf8
from blobstore.values.contract import check_size, examine, holds_nul, to_json
from blobstore.values.refusals import refusal

if TYPE_CHECKING:
    from blobstore.keys.places import Place

ZSTD_LEVEL = 3

LONG_JSON = 256 * 1024  # bytes

PREVIEW = 40  # characters: few, so that the row of a small blob stays small

Bytes = bytes | memoryview

KINDS = frozenset({"text", "bytes", "json"})


@dataclass(frozen=True, slots=True)
class Inline:
    """A small value that a jsonb column holds exactly.

    Attributes:
        json: The value as JSON.
    """

    json: bytes


@dataclass(frozen=True, slots=True)
class Payload:
    """A value in a form that is small in memory and cannot be changed.

    Attributes:
        kind: `text`, `bytes` or `json`.
        data: The str or the bytes themselves. For `json` the JSON, because each reader must get
            a new list or dict.
        place: The place that its seal names; None if it was not encrypted.
    """

    kind: str
    data: str | bytes
    place: "Place | None" = None

    def size(self, cap: int) -> int:
        """Count the bytes that are stored.

        Raises:
            ValueRefused: A text has a lone surrogate.
            ValueTooLarge: There are more bytes than `cap`.
        """
        check_size(len(self.data), cap)  # characters first, so that a huge text is refused at once
        size = sum(map(len, self.pieces()))
        check_size(size, cap)
        return size

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes that are stored. Each call begins at the start.

        Raises:
            ValueRefused: A text has a lone surrogate.
        """
        if isinstance(self.data, bytes):
            yield self.data
            return
        try:
            yield from utf8.pieces(self.data)
        except UnicodeEncodeError:
            raise refusal(self.data) from None

    def chunks(self, size: int) -> Iterator[bytes | memoryview]:
        """Yield the bytes that are stored in chunks of `size` bytes, the last one shorter."""
        if isinstance(self.data, str):
            return utf8.chunks(self.data, size)
        view = memoryview(self.data)
        return (view[start : start + size] for start in range(0, len(view), size))

    def sha256(self) -> bytes:
        """Return the SHA-256 of the bytes that are stored; raises as :meth:`pieces` does."""
        digest = sha256()
        for piece in self.pieces():
            digest.update(piece)
        return digest.digest()


def preview_of(kind: str, head: Bytes) -> str | None:
    """Return the first characters of a text or JSON; None for bytes."""
    if kind == "bytes":
        return None
    return bytes(head[: 4 * PREVIEW]).decode("utf-8", "ignore")[:PREVIEW].replace("\0", "\ufffd")


class _Contexts(threading.local):
    # One of each for a thread. A compressor shared by two threads crashes the process, and a
    # shared decompressor returns wrong bytes.
    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True)
        self.decompressor = zstandard.ZstdDecompressor()


_contexts = _Contexts()


def compress(pieces: Iterable[bytes | memoryview], size: int) -> bytes:
    """Make a zstd frame with a checksum from pieces of `size` bytes in total."""
    pieces = iter(pieces)
    first = next(pieces, b"")
    if len(first) == size:  # in one call: saves half the memory and a sixth of the time
        return _contexts.compressor.compress(first)
    frame = _contexts.compressor.compressobj(size=size)
    return b"".join([*map(frame.compress, chain([first], pieces)), frame.flush()])


def decompress(content: bytes, raw_size: int) -> bytes:
    """Read a zstd frame that holds `raw_size` bytes.

    Raises:
        ValueError: The frame is damaged or has another size. The size is checked before memory is
            allocated.
    """
    try:
        # If a frame declares its size, the library ignores max_output_size.
        declared = zstandard.frame_content_size(content)
        if declared != raw_size:
            raise ValueError(f"its frame declares {declared:,} bytes, not {raw_size:,}")
        return _contexts.decompressor.decompress(content, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


def pack(payload: Payload, size: int, dictionary: Compressor | None = None) -> tuple[str, bytes]:
    """Compress a payload. Returns the codec, `none` or `zstd`, and the bytes to store.

    Args:
        payload: The payload.
        size: The number of its bytes.
        dictionary: The dictionary to compress with, if any.
    """
    if dictionary:
        content = dictionary.compress(b"".join(payload.pieces()))
    else:
        content = compress(payload.pieces(), size)
    return ("zstd", content) if len(content) < size else ("none", b"".join(payload.pieces()))


def unpack(
    codec: str, content: bytes, raw_size: int, dictionary: Compressor | None = None
) -> bytes:
    """Return the bytes that :func:`pack` took.

    Raises:
        ValueError: The content is damaged, or this release does not know the codec.
    """
    if codec not in {"none", "zstd"}:
        raise ValueError(f"its codec is {codec[:40]!r}: was it written by a newer release?")
    if codec == "zstd":
        content = (dictionary.decompress if dictionary else decompress)(content, raw_size)
    if len(content) != raw_size:
        raise ValueError(f"it has {len(content):,} bytes, not {raw_size:,}")
    return content


def serialize(value: object, *, threshold: int, cap: int) -> Inline | Payload:
    """Decide in what form a value is stored.

    Args:
        value: What a handler returned.
        threshold: The size of the JSON, in bytes, up to which a value stays inline if jsonb holds
            it exactly. With -1, no value stays inline.
        cap: The largest size of a value, in bytes.

    Raises:
        ValueRefused: The value could not come back as it was.
        ValueTooLarge: The value is larger than `cap`.
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
    """Make a payload from stored bytes.

    Raises:
        BlobDamaged: The bytes are not text, or this release does not know the kind.
    """
    if kind not in KINDS:
        raise BlobDamaged(blob_id, f"its kind is {kind[:40]!r}: was it written by a newer release?")
    try:
        return Payload(kind, utf8.decode(raw) if kind == "text" else raw)
    except UnicodeDecodeError as error:
        # Not the text of the error, which quotes a byte.
        raise BlobDamaged(blob_id, f"it is not UTF-8 at byte {error.start:,}") from None


def parse(blob_id: UUID, payload: Payload) -> Any:
    """Return the value of a payload. Each call makes a new list or dict.

    Raises:
        BlobDamaged: This release cannot read the JSON.
    """
    if payload.kind != "json":
        return payload.data
    # Without the pause, the garbage collector visits the new objects again and again: parsing takes
    # three times as long. Nothing else runs meanwhile, because orjson holds the interpreter.
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
