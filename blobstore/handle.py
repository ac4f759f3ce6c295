"""A value that stays where it is until it is asked for."""

import builtins
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from hashlib import sha256
from pathlib import Path
from typing import Any, Generic, TypeVar
from uuid import UUID

import orjson
import trio

from blobstore.abc import Source
from blobstore.rows import BlobRow
from blobstore.trio_only import AsyncOnly, need_trio

T_co = TypeVar("T_co", covariant=True)

# A row tells what its kind does not.
MEDIA_TYPES = {
    "text": "text/plain",
    "bytes": "application/octet-stream",
    "json": "application/json",
    "list": "application/json",
}


class Blob(Generic[T_co]):
    """The handle of a value: what is known of it, and ways to read it.

    A handler gets one where its step names ``step.blob`` in place of ``step``, and may return it:
    then nothing is stored again. From a handler in a thread, its methods are called by
    ``trio.from_thread.run(blob.text)``.

    Attributes:
        size: Bytes: of the text as UTF-8, of the bytes, of the JSON; of a list with its elements.
        kind: ``text``, ``bytes``, ``json``, or ``list`` for one that is kept by its elements.
        media_type: Such as ``text/html``; what goes for all of its kind, if nobody said.
        sha256: Digest of these bytes, in hexadecimal digits.
        id: The id of the blob; None if the value is so small that it stands in a row.
    """

    __slots__ = ("_source", "id", "kind", "length", "media_type", "run_id", "sha256", "size")

    def __init__(
        self, row: BlobRow, sha256: bytes, source: Source, *, inline: bool = False
    ) -> None:
        self.id: UUID | None = None if inline else row.id
        self.run_id = row.run_id
        self.size = (row.raw_size or 0) + (row.elements_size or 0)
        self.kind = row.kind
        self.media_type = row.media_type or MEDIA_TYPES.get(row.kind)
        self.sha256 = sha256.hex()
        self.length = None if row.elements is None else len(row.elements)
        self._source = source

    @classmethod
    def of(cls, run_id: UUID, value: Any) -> "Blob[Any]":
        """The handle of a value that stands in a row."""
        kind = "text" if isinstance(value, str) else "json"
        raw = value.encode() if isinstance(value, str) else orjson.dumps(value)
        row = BlobRow(run_id, run_id, "", 0, kind, raw_size=len(raw))
        return cls(row, sha256(raw).digest(), Here(value, raw), inline=True)

    def __repr__(self) -> str:
        return f"<Blob {self.kind}, {self.size:,} bytes, {self.id or 'inline'}>"

    async def value(self) -> T_co:
        """The value itself, as a step without the handle gets it.

        Raises:
            BlobError: It cannot be read; see :mod:`blobstore.errors`.
        """
        need_trio("Blob.value()")
        value: T_co = await self._source.value()
        return value

    async def bytes(self) -> builtins.bytes:
        """All of its bytes. Of a list that is kept by its elements there are none: take `value`."""
        need_trio("Blob.bytes()")
        return await self.read(0, None)

    async def text(self) -> str:
        """All of its bytes as text; those of a page that was returned as bytes must be UTF-8."""
        need_trio("Blob.text()")
        return await trio.to_thread.run_sync((await self.bytes()).decode)

    async def read(self, start: int = 0, stop: int | None = None) -> builtins.bytes:
        """The bytes from `start` to `stop`: of a large value, only the chunks they are in."""
        need_trio("Blob.read()")
        async with aclosing(self._source.pieces(start, stop)) as pieces:
            parts = [piece async for piece in pieces]
        # Joining is copying: not here, where all other tasks would wait.
        return parts[0] if len(parts) == 1 else await trio.to_thread.run_sync(b"".join, parts)

    def open(self) -> "BlobStream":
        """A stream of its bytes; a few chunks of it are in memory at a time.

        ``async with blob.open() as stream: async for piece in stream: ...``
        """
        return BlobStream(self._source.pieces(0, None))

    async def save(self, path: "Path | str") -> None:
        """Write its bytes to a file, which is there when all of them are.

        Until then they are in a file of this call's own, in the same folder, which is removed if
        the call fails or is cancelled. A process that is killed leaves it: a hidden file whose
        name ends with ``.partial``.
        """
        need_trio("Blob.save()")
        whole = trio.Path(path)
        partial = whole.with_name(f".{secrets.token_hex(8)}.partial")
        file = await trio.open_file(partial, "xb")
        try:
            async with file, self.open() as stream:
                async for piece in stream:
                    await file.write(piece)
            await partial.rename(whole)
        except BaseException:
            with trio.CancelScope(shield=True):
                await partial.unlink(missing_ok=True)
            raise

    async def item(self, index: int) -> Any:
        """An element of a list that is kept by its elements, without the others.

        Raises:
            IndexError: It has no such element, or is no such list.
        """
        need_trio("Blob.item()")
        if self.length is None or not 0 <= index < self.length:
            raise IndexError(f"{self!r} has no element {index}")
        return await self._source.element(index)


class Here:
    """The source of a value that is in memory."""

    def __init__(self, value: Any, raw: bytes) -> None:
        self._value = value
        self._raw = raw

    async def value(self) -> Any:
        """The value."""
        await trio.lowlevel.checkpoint()
        return self._value

    async def pieces(self, start: int, stop: int | None) -> AsyncGenerator[bytes, None]:
        """The bytes of a range."""
        await trio.lowlevel.checkpoint()
        yield self._raw[start:stop]

    async def element(self, index: int) -> Any:
        """Never asked for: only a blob is kept by its elements."""
        raise IndexError(index)


class BlobStream(AsyncOnly, trio.abc.ReceiveStream):
    """The bytes of a blob as a trio stream."""

    how_to = "async with blob.open() as stream: async for piece in stream: ..."

    def __init__(self, pieces: AsyncGenerator[bytes, None]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")
        self._broken = self._closed = self._reading = False

    def __aiter__(self) -> "BlobStream":
        return self

    async def __anext__(self) -> bytes:
        if piece := await self.receive_some():
            return piece
        raise StopAsyncIteration

    async def receive_some(self, max_bytes: int | None = None) -> builtins.bytes:
        """The next bytes; none at the end.

        A checkpoint. One that is cancelled while it waits for bytes breaks the stream.

        Raises:
            BlobError: It cannot be read; see :mod:`blobstore.errors`.
            trio.BrokenResourceError: It was cancelled or failed before.
            trio.ClosedResourceError: The stream is closed.
            trio.BusyResourceError: Another task is reading it.
        """
        need_trio("BlobStream.receive_some()")
        if max_bytes is not None and max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, not {max_bytes}")
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise trio.ClosedResourceError
        if not self._rest:
            self._rest = memoryview(await self._next())
        part = self._rest[:max_bytes]
        self._rest = self._rest[len(part) :]
        return bytes(part)

    async def _next(self) -> builtins.bytes:
        # A generator that an exception went through only ever says that it is at its end.
        if self._reading:
            raise trio.BusyResourceError("another task is reading this stream")
        if self._broken:
            raise trio.BrokenResourceError("reading failed or was cancelled before")
        self._broken = self._reading = True
        try:
            piece = await anext(self._pieces, b"")
            self._broken = False
        finally:
            self._reading = False
        return piece

    async def aclose(self) -> None:
        """Read no further."""
        self._closed = True
        await self._pieces.aclose()
