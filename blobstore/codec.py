"""From a value to a blob and back.

    value ── serialize ──> Inline (the JSON, small) or Payload ── pack ──> Blob
    value <── parse ── Payload <── unpack ── Blob

A payload is what stays in memory (and in the cache), a blob is a row of
`pgflow.output_blobs`.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from secrets import randbits
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import zstandard

from blobstore.errors import BlobDamaged
from blobstore.refusal import refusal
from blobstore.values import check_size, examine, holds_nul, to_json

ZSTD_LEVEL = 3

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
    """

    kind: str
    data: str | bytes


@dataclass(frozen=True, slots=True)
class Blob:
    """A row of `pgflow.output_blobs`.

    Attributes:
        id: A UUIDv7, so that the primary key grows at its right end.
        kind: `text`, `bytes` or `json`.
        codec: A name in `CODECS`.
        content: The stored bytes.
        raw_size: Bytes before compression.
        sha256: Digest of the bytes before compression.
    """

    id: UUID
    kind: str
    codec: str
    content: bytes
    raw_size: int
    sha256: bytes


class Codec(NamedTuple):
    """A way to store bytes: `decompress` is told the size that must come out.

    It raises ValueError for content that is not its own or has another size, before it
    takes memory for it.
    """

    compress: Callable[[bytes], bytes]
    decompress: Callable[[bytes, int], bytes]


class _Contexts(threading.local):
    # A compressor shared by two threads crashes the process, a shared decompressor
    # returns wrong bytes.
    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True)
        self.decompressor = zstandard.ZstdDecompressor()


_contexts = _Contexts()


def _zstd_compress(raw: bytes) -> bytes:
    return _contexts.compressor.compress(raw)


def _zstd_decompress(content: bytes, raw_size: int) -> bytes:
    try:
        # The library believes the frame over its own max_output_size.
        declared = zstandard.frame_content_size(content)
        if declared != raw_size:
            raise ValueError(f"its frame declares {declared:,} bytes, not {raw_size:,}")
        return _contexts.decompressor.decompress(content, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


CODECS = {
    "none": Codec(lambda raw: raw, lambda content, _: content),
    "zstd": Codec(_zstd_compress, _zstd_decompress),
}


def serialize(value: object, *, threshold: int, cap: int) -> Inline | Payload:
    """Decide in what form a value is kept.

    Args:
        value: What a handler returned.
        threshold: Bytes of JSON up to which a value is kept inline, if jsonb can hold
            it exactly.
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


def pack(payload: Payload, *, cap: int) -> Blob:
    """Make a blob of a payload.

    Raises:
        ValueRefused: It is a text with a lone surrogate.
        ValueTooLarge: It is larger than `cap`.
    """
    raw = _raw(payload.data, cap)
    codec, content = "zstd", CODECS["zstd"].compress(raw)
    if len(content) >= len(raw):
        codec, content = "none", raw
    return Blob(new_id(), payload.kind, codec, content, len(raw), sha256(raw).digest())


def unpack(blob: Blob, *, cap: int) -> Payload:
    """Give the payload of a blob, checked against its size and digest.

    Raises:
        BlobDamaged: It is not what was written, larger than `cap`, or of a kind or
            codec that this release does not know.
    """
    try:
        raw = _checked(blob, cap)
        return Payload(blob.kind, raw.decode() if blob.kind == "text" else raw)
    except ValueError as error:
        raise BlobDamaged(blob.id, str(error)) from error


def parse(blob_id: UUID, payload: Payload) -> Any:
    """Give the value of a payload; a list or dict is a new one each time.

    Raises:
        BlobDamaged: It is JSON that this release cannot read.
    """
    if payload.kind != "json":
        return payload.data
    try:
        return orjson.loads(payload.data)
    except orjson.JSONDecodeError as error:
        raise BlobDamaged(blob_id, f"its JSON cannot be read: {error.msg}") from error


def new_id() -> UUID:
    """Make a UUIDv7 that orders by time, to a quarter of a microsecond."""
    milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
    ordered = milliseconds << 16 | 0x7000 | nanoseconds * 4096 // 1_000_000
    return UUID(int=ordered << 64 | 0b10 << 62 | randbits(62))


def _raw(data: str | bytes, cap: int) -> bytes:
    check_size(len(data), cap)  # characters first: no gigabyte is copied to be refused
    if isinstance(data, bytes):
        return data
    try:
        raw = data.encode()
    except UnicodeEncodeError:
        raise refusal(data) from None
    check_size(len(raw), cap)
    return raw


def _checked(blob: Blob, cap: int) -> bytes:
    codec = CODECS.get(blob.codec)
    if blob.kind not in KINDS or codec is None:
        unknown = f"its kind is {blob.kind[:40]!r}, its codec {blob.codec[:40]!r}"
        raise ValueError(f"{unknown}: was it written by a newer release?")
    if not 0 <= blob.raw_size <= cap:
        raise ValueError(f"it has {blob.raw_size:,} bytes, the cap is {cap:,}")
    raw = codec.decompress(blob.content, blob.raw_size)
    if len(raw) != blob.raw_size or sha256(raw).digest() != blob.sha256:
        raise ValueError("its bytes are not those that were written")
    return raw
