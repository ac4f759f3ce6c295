"""Streams of bytes: from files, from handlers, and regrouped into chunks of one size."""

import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import trio

from blobstore.abc import Work
from blobstore.errors import ValueRefused
from blobstore.values.codec import Bytes

READ_SIZE = 4 * 1024 * 1024
PIECES = 256  # of a stream, between two checkpoints


async def regroup(pieces: AsyncIterator[Bytes], size: int) -> AsyncGenerator[Bytes, None]:
    """Yield the same bytes in chunks of `size` bytes, the last one shorter. Copies if needed."""
    gathered = bytearray()
    async for piece in pieces:
        view = memoryview(piece)
        while len(view) >= size - len(gathered):
            missing = size - len(gathered)
            chunk, view = view[:missing], view[missing:]
            if gathered:
                gathered += chunk
                yield bytes(gathered)
                gathered.clear()
            else:
                yield chunk
        gathered += view
    if gathered:
        yield bytes(gathered)


async def drawn(chunks: Iterator[Bytes], work: Work) -> AsyncGenerator[Bytes, None]:
    """Yield chunks. Each is made in a thread, because that takes a while."""
    while chunk := await work(True, partial(next, chunks, b"")):
        yield chunk


async def chain(head: Bytes, rest: AsyncIterator[Bytes]) -> AsyncGenerator[Bytes, None]:
    """Yield the piece that was read already, then the rest."""
    yield head
    async for piece in rest:
        yield piece


async def checked(pieces: AsyncIterator[Any]) -> AsyncGenerator[bytes, None]:
    """Yield the pieces of a user's stream as bytes. Close the stream at the end, if possible."""
    count = 0
    try:
        async for piece in pieces:
            if not isinstance(piece, bytes | bytearray | memoryview):
                raise ValueRefused(
                    f"$ is a stream that yields {type(piece).__name__}: let it yield bytes,"
                    f" `{'value.encode()' if isinstance(piece, str) else 'orjson.dumps(value)'}`"
                )
            # A stream without a checkpoint of its own would stop the whole worker.
            if (count := count + 1) % PIECES == 0:
                await trio.lowlevel.checkpoint()
            yield bytes(piece)
    finally:
        if aclose := getattr(pieces, "aclose", None):
            await aclose()


async def file_pieces(path: Path, limiter: trio.CapacityLimiter) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of a file.

    A file system that does not answer blocks a thread, but not the worker.

    Raises:
        ValueRefused: The path is a folder, a pipe or a device.
        OSError: The file cannot be read.
    """
    run = partial(trio.to_thread.run_sync, abandon_on_cancel=True, limiter=limiter)
    file = await run(partial(open_file, path))
    try:
        while piece := await run(partial(file.read, READ_SIZE)):
            yield piece
    finally:
        file.close()


def open_file(path: Path) -> BinaryIO:
    """Open a regular file, and refuse other files: they may never end."""
    # O_NONBLOCK: do not wait for the other end of a pipe. Regular files ignore it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb", buffering=0)
    os.close(descriptor)
    raise ValueRefused(f"$ is the path {ascii(str(path))[:200]}, which is not a regular file")
