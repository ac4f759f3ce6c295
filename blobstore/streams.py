"""Streams of bytes: of files, of handlers, and in chunks of one size."""

import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import trio

from blobstore.abc import Work
from blobstore.codec import Bytes
from blobstore.errors import ValueRefused

READ_SIZE = 4 * 1024 * 1024
PIECES = 256  # of a stream between two checkpoints


async def regroup(pieces: AsyncIterator[Bytes], size: int) -> AsyncGenerator[Bytes, None]:
    """The same bytes in chunks of `size`, the last one shorter; copied only where it must be."""
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
    """Chunks that take a while to make, each made in a thread."""
    while chunk := await work(True, partial(next, chunks, b"")):
        yield chunk


async def chain(head: Bytes, rest: AsyncIterator[Bytes]) -> AsyncGenerator[Bytes, None]:
    """What was read already, and what comes after."""
    yield head
    async for piece in rest:
        yield piece


async def checked(pieces: AsyncIterator[Any]) -> AsyncGenerator[bytes, None]:
    """The pieces of a stream that is the user's, which is closed at the end if it can be."""
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
    """The bytes of a file.

    A file system that does not answer keeps a thread, and not the worker.

    Raises:
        ValueRefused: It is a folder, a pipe or a device.
        OSError: It cannot be read.
    """
    run = partial(trio.to_thread.run_sync, abandon_on_cancel=True, limiter=limiter)
    file = await run(partial(open_file, path))
    try:
        while piece := await run(partial(file.read, READ_SIZE)):
            yield piece
    finally:
        file.close()


def open_file(path: Path) -> BinaryIO:
    """Open a regular file; one of another kind may keep us waiting for ever."""
    # Not to wait for the other end of a pipe; of a regular file it changes nothing.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb", buffering=0)
    os.close(descriptor)
    raise ValueRefused(f"$ is the path {ascii(str(path))[:200]}, which is not a regular file")
