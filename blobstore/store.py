"""Where the chunks of large blobs are kept: by default in `pgflow.blob_chunks`."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.types.numeric import Int4

from blobstore.errors import BlobMissing
from blobstore.trio_only import need_trio

T = TypeVar("T")

WRITE = "select pgflow.write_chunk(%b, %b, %b, %b)"

READ = "select seq, content from pgflow.blob_chunks where blob_id = %b and seq = any(%b)"


class Caller(Protocol):
    """Makes a call on some connection, and again if the connection breaks."""

    async def __call__(self, call: Callable[[AsyncConnection[Any]], Awaitable[T]], /) -> T:
        """Make the call; a second time it must change nothing."""
        ...


def caller_of(connection: AsyncConnection[Any]) -> Caller:
    """Makes calls on this connection, in the transaction it is in."""

    async def make(call: Callable[[AsyncConnection[Any]], Awaitable[T]], /) -> T:
        return await call(connection)

    return make


class BlobStore(Protocol):
    """Keeps chunks: bytes, by blob and number."""

    @property
    def name(self) -> str | None:
        """What stands in `output_blobs.store`."""
        ...

    async def put(self, blob_id: UUID, seq: int, content: bytes) -> None:
        """Keep a chunk; the same chunk a second time changes nothing.

        Raises:
            BlobMissing: Its blob was deleted meanwhile.
        """
        ...

    async def get(self, blob_id: UUID, seqs: Sequence[int]) -> list[bytes]:
        """Give chunks, in the order of `seqs`.

        Raises:
            BlobMissing: One of them is not there.
        """
        ...


class PostgresStore:
    """Keeps chunks in the database of the runs.

    Args:
        make: Makes calls.
        wait_for_disk: Whether commits wait for the disk; not needed before one that does.
    """

    name = None

    def __init__(self, make: Caller, *, wait_for_disk: bool = True) -> None:
        self._make = make
        self._wait_for_disk = wait_for_disk

    async def put(self, blob_id: UUID, seq: int, content: bytes) -> None:
        """Insert a row, unless it is there."""
        need_trio("PostgresStore.put()")

        async def write(connection: AsyncConnection[Any]) -> bool:
            async with connection.cursor(binary=True) as cursor:
                await cursor.execute(WRITE, [blob_id, Int4(seq), content, self._wait_for_disk])
                ((written,),) = await cursor.fetchall()
                return bool(written)

        if not await self._make(write):
            raise BlobMissing(blob_id)

    async def get(self, blob_id: UUID, seqs: Sequence[int]) -> list[bytes]:
        """Select rows."""
        need_trio("PostgresStore.get()")

        async def read(connection: AsyncConnection[Any]) -> dict[int, bytes]:
            async with connection.cursor(binary=True) as cursor:
                await cursor.execute(READ, [blob_id, list(seqs)], prepare=False)  # for one day
                return dict(await cursor.fetchall())

        found = await self._make(read)
        try:
            return [found[seq] for seq in seqs]
        except KeyError:
            raise BlobMissing(blob_id) from None
