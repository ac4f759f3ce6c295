"""Writes and reads large values. Only a few chunks are in memory at a time."""

import hashlib
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Sequence,
)
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TypeVar

from blobstore.abc import BlobStore, Work
from blobstore.errors import BlobDamaged
from blobstore.keys.places import open_digest, seal_digest
from blobstore.keys.seals import Seal
from blobstore.postgres.rows import BlobRow, Upload
from blobstore.together import together
from blobstore.values.codec import Bytes, compress, decompress, preview_of

# Chunks in memory at a time, in each direction: one is compressed while another is sent.
UNDER_WAY = 3

MOST = 64 * 1024 * 1024  # bytes of a chunk; a row that says more is refused, to protect the memory

T = TypeVar("T")


class Chunks:
    """The chunks of one blob.

    Args:
        row: The blob.
        seal: The seal of the blob.
        store: The store of the chunks.
        work: Runs jobs, those that take milliseconds in a thread.
    """

    def __init__(self, row: BlobRow, seal: Seal, store: BlobStore, work: Work) -> None:
        self._row = row
        self._seal = seal
        self._store = store
        self._work = work

    async def write(self, pieces: AsyncIterator[Bytes]) -> Upload:
        """Write the chunks. Returns the facts that finish the row.

        Args:
            pieces: The bytes of the blob, in pieces of the row's chunk size.
        """
        digest, preview = hashlib.sha256(), None
        seq = raw_size = stored_size = 0
        async with aclosing(groups(pieces)) as grouped:
            async for group in grouped:
                preview = preview if seq else preview_of(self._row.kind, group[0])
                stored_size += await self._write_group(seq, group, digest.update)
                raw_size += sum(map(len, group))
                seq += len(group)
        row = replace(self._row, raw_size=raw_size)
        sealed = seal_digest(row, self._seal, digest.digest())
        preview = None if self._seal.closed else preview
        return Upload(row.id, row.run_id, seq, raw_size, stored_size, sealed, preview)

    async def _write_group(
        self, first: int, group: list[Bytes], digest: Callable[[Bytes], None]
    ) -> int:
        """Write a group of chunks together. Returns the number of bytes that are stored."""

        async def put(seq: int, raw: Bytes) -> int:
            content = await self._work(True, partial(seal_chunk, self._seal, seq, raw))
            await self._store.put(self._row.id, seq, content)
            return len(content)

        async def count() -> int:
            await self._work(True, lambda: deque(map(digest, group), 0))
            return 0

        jobs: list[Callable[[], Awaitable[int]]] = [count]
        jobs += [partial(put, first + place, raw) for place, raw in enumerate(group)]
        return sum(await together(jobs))

    async def read(self, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from `start` to `stop`, in pieces.

        Raises:
            BlobDamaged: The bytes are not those that were written. Each chunk is checked. If the
                range is the whole blob, the digest is checked too, at the end.
            BlobMissing: A chunk does not exist.
        """
        row = self._row
        size, chunk_size = row.raw_size or 0, row.chunk_size or 1
        if chunk_size > MOST:
            raise BlobDamaged(row.id, f"its chunk size is too large: {chunk_size:,} bytes")
        start, stop, _ = slice(start, stop).indices(size)
        digest = hashlib.sha256() if (start, stop) == (0, size) else None
        seqs = range(start // chunk_size, -(-stop // chunk_size)) if start < stop else range(0)
        for group in batched(seqs, UNDER_WAY):
            for seq, raw in zip(group, await self._read_group(group), strict=True):
                if digest:
                    await self._work(True, partial(digest.update, raw))
                at = seq * chunk_size
                yield raw[max(start - at, 0) : stop - at]
        if digest:
            check(row, self._seal, digest.digest())

    async def _read_group(self, seqs: Sequence[int]) -> list[bytes]:
        contents = await self._store.get(self._row.id, seqs)
        return await together(
            partial(self._work, True, partial(open_chunk, self._row, self._seal, seq, content))
            for seq, content in zip(seqs, contents, strict=True)
        )


def seal_chunk(seal: Seal, seq: int, raw: Bytes) -> bytes:
    """Compress and seal a chunk. It is always a zstd frame, because that has a checksum."""
    return seal.seal_chunk(seq, compress([raw], len(raw)))


def open_chunk(row: BlobRow, seal: Seal, seq: int, content: bytes) -> bytes:
    """Return the bytes of a chunk.

    Raises:
        BlobDamaged: The bytes are not those that were written.
    """
    chunk_size = row.chunk_size or 1
    raw_size = min(chunk_size, (row.raw_size or 0) - seq * chunk_size)
    try:
        return decompress(seal.open_chunk(seq, content), raw_size)
    except ValueError as error:
        raise BlobDamaged(row.id, f"chunk {seq}: {error}") from error


def check(row: BlobRow, seal: Seal, found: bytes) -> None:
    """Compare the digest of the bytes that were read with that of the bytes that were written.

    Raises:
        BlobDamaged: The digests differ.
    """
    if found != open_digest(row, seal)[0]:
        raise BlobDamaged(row.id, "its bytes are not those that were written")


async def groups(chunks: AsyncIterator[Bytes]) -> AsyncGenerator[list[Bytes], None]:
    """Yield groups of chunks that are in memory together."""
    group: list[Bytes] = []
    async for chunk in chunks:
        group.append(chunk)
        if len(group) == UNDER_WAY:
            yield group
            group = []
    if group:
        yield group


def batched(seqs: range, size: int) -> Iterator[range]:
    """Yield the range in pieces (itertools has this from Python 3.12)."""
    return (seqs[at : at + size] for at in range(0, len(seqs), size))
