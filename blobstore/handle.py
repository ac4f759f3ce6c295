"""The handle of a value, and the stream that reads its bytes."""

import builtins
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from copy import deepcopy
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Generic, TypeVar
from uuid import UUID

import orjson
import trio

from blobstore.abc import Source
from blobstore.items import BlobItems
from blobstore.postgres.rows import BlobRow
from blobstore.trio_only import AsyncOnly, need_trio

T_co = TypeVar("T_co", covariant=True)

# For a value whose media type nobody gave.
MEDIA_TYPES = {
    "text": "text/plain",
    "bytes": "application/octet-stream",
    "json": "application/json",
    "list": "application/json",
}


class Blob(Generic[T_co]):
    """The handle of a value: its size, its kind, and methods that read it.

    A handler gets a handle if its step names ``step.blob`` in place of ``step``. A handler that
    returns a handle returns its value. Within a run without keys, the value is not stored again.
    A handler in a thread calls the methods with ``trio.from_thread.run(blob.text)``.

    Attributes:
        size: Size in bytes: of a text as UTF-8, of the bytes, of the JSON, or of a list and its
            elements.
        kind: ``text``, ``bytes``, ``json``, or ``list`` for a list that is stored by its elements.
        media_type: Such as ``text/html``. If nobody gave one, the default of the kind, such as
            ``text/plain``.
        sha256: The SHA-256 digest of the bytes, in hexadecimal digits. For a list that is stored
            by its elements, it covers the list without the elements that are blobs.
        id: The id of the blob. None if the value is inline.
    """

    __slots__ = (
        "_count", "_source", "id", "is_read_by_sql", "kind", "length", "media_type", "run_id",
        "sha256", "size",
    )  # fmt: skip

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
        # A map goes only over lists whose elements SQL can count and read.
        self.is_read_by_sql = row.kind == "list" and row.codec == "none" and row.key_id is None
        self._count = source.count if isinstance(source, Here) else self.length
        self._source = source

    @classmethod
    def of(cls, run_id: UUID, value: Any) -> "Blob[Any]":
        """Make the handle of an inline value."""
        kind = "text" if isinstance(value, str) else "json"
        raw = value.encode() if isinstance(value, str) else orjson.dumps(value)
        row = BlobRow(run_id, run_id, "", 0, kind, raw_size=len(raw))
        return cls(row, sha256(raw).digest(), Here(value, raw), inline=True)

    def __repr__(self) -> str:
        return f"<Blob {self.kind}, {self.size:,} bytes, {self.id or 'inline'}>"

    async def value(self) -> T_co:
        """Get the value itself, as a step that does not ask for the handle gets it.

        Raises:
            BlobError: The value cannot be read; see :mod:`blobstore.errors`.
        """
        need_trio("Blob.value()")
        value: T_co = await self._source.value()
        return value

    async def bytes(self) -> builtins.bytes:
        """Read all bytes of the value.

        Raises:
            BlobError: The value cannot be read; see :mod:`blobstore.errors`.
            TypeError: It is a list that is stored by its elements: call :meth:`value`.
        """
        need_trio("Blob.bytes()")
        return await self.read(0, None)

    async def text(self) -> str:
        """Read the value as text. Bytes must be UTF-8.

        Raises:
            UnicodeDecodeError: The bytes are not UTF-8.
            BlobError: The value cannot be read; see :mod:`blobstore.errors`.
            TypeError: It is a list that is stored by its elements: call :meth:`value`.
        """
        need_trio("Blob.text()")
        return await trio.to_thread.run_sync((await self.bytes()).decode)

    async def read(self, start: int = 0, stop: int | None = None) -> builtins.bytes:
        """Read the bytes from `start` to `stop`, as a slice counts them.

        Of a large value, only the chunks that hold these bytes are read.

        Args:
            start: The index of the first byte, 0 by default.
            stop: The index after the last byte. None, the default, reads to the end.

        Raises:
            BlobError: The value cannot be read; see :mod:`blobstore.errors`.
            TypeError: It is a list that is stored by its elements: call :meth:`value`.
        """
        need_trio("Blob.read()")
        async with aclosing(self._source.pieces(start, stop)) as pieces:
            parts = [piece async for piece in pieces]
        # Joining copies the bytes: in a thread, so that other tasks do not wait for it.
        return parts[0] if len(parts) == 1 else await trio.to_thread.run_sync(b"".join, parts)

    def open(self) -> "BlobStream":
        """Open a stream of the bytes. At most a few chunks are in memory at a time.

        ``async with blob.open() as stream: async for piece in stream: ...``
        """
        return BlobStream(self._source.pieces(0, None))

    async def save(self, path: "Path | str") -> None:
        """Write the bytes to a file. The file appears once it is complete, and replaces an old one.

        Until then, the bytes are in a hidden file in the same folder, whose name ends with
        ``.partial``. If the call fails or is cancelled, it removes this file. A process that is
        killed leaves it behind.

        Args:
            path: The path of the file.

        Raises:
            BlobError: The value cannot be read; see :mod:`blobstore.errors`.
            OSError: The file cannot be written.
            TypeError: It is a list that is stored by its elements: call :meth:`value`.
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
        """Get one element of a list, without reading the others.

        The list is the output of a map, or one that a map goes over, or is stored by its elements.

        Args:
            index: The index of the element, from 0.

        Raises:
            IndexError: The list has no such element, or the value is no such list.
            BlobError: The element cannot be read; see :mod:`blobstore.errors`.
        """
        need_trio("Blob.item()")
        if self._count is None or not 0 <= index < self._count:
            raise IndexError(f"{self!r} has no element {index}")
        return await self._source.element(index)

    def items(self) -> BlobItems:
        """Iterate over the elements of a list. Some hundreds of them are in memory at a time.

        ``async for element in blob.items(): ...`` The elements have 8 MiB at most together, unless
        one is larger. Several tasks may iterate over the same object: each element goes to one of
        them. If an element cannot be read, the loop ends with the error, and :meth:`item` reads
        the others.

        Raises:
            TypeError: The value is no list, or one that :meth:`item` does not take either.
            BlobError: Raised in the loop: an element cannot be read.
        """
        if self._count is None:
            raise TypeError(f"{self!r} has no elements: call value()")
        return BlobItems(self._count, self._source)


class Here:
    """The source of a handle whose value is in memory."""

    def __init__(self, value: Any, raw: bytes) -> None:
        self._value = value
        self._raw = raw

    async def value(self) -> Any:
        """Get the value."""
        await trio.lowlevel.checkpoint()
        return self._value

    async def pieces(self, start: int, stop: int | None) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a range."""
        await trio.lowlevel.checkpoint()
        yield self._raw[start:stop]

    @property
    def count(self) -> int | None:
        """How many elements the value has, if it is a list."""
        return len(self._value) if isinstance(self._value, list) else None

    async def element(self, index: int) -> Any:
        """Get an element of a list."""
        await trio.lowlevel.checkpoint()
        return deepcopy(self._value[index])

    async def ahead(self, index: int) -> list[Callable[[], Awaitable[Any]]]:
        """Return what gets the elements from this one on."""
        await trio.lowlevel.checkpoint()
        return [partial(self.element, place) for place in range(index, self.count or 0)]


class BlobStream(AsyncOnly, trio.abc.ReceiveStream):
    """The bytes of a value as a trio stream; see :meth:`Blob.open`."""

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
        """Read the next bytes. At the end, returns no bytes.

        A checkpoint. A call that is cancelled while it waits for bytes breaks the stream.

        Args:
            max_bytes: The most bytes to return, at least 1. With None, what is in memory, or the
                next piece.

        Raises:
            BlobError: The value cannot be read; see :mod:`blobstore.errors`.
            trio.BrokenResourceError: An earlier call failed or was cancelled.
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
        # After an exception, a generator only says that it is at its end.
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
        """Close the stream."""
        self._closed = True
        await self._pieces.aclose()
