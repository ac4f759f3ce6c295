"""The default store of chunks: the table `pgflow.blob_chunks`."""

from collections.abc import Sequence
from typing import Any, TypeVar
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.types.numeric import Int4

from blobstore.abc import Caller
from blobstore.errors import BlobMissing
from blobstore.trio_only import need_trio

T = TypeVar("T")

WRITE = "select pgflow.write_chunk(%b, %b, %b, %b)"

READ = "select seq, content from pgflow.blob_chunks where blob_id = %b and seq = any(%b)"


class PostgresStore:
    """Keeps chunks in the database of the runs.

    Args:
        make: Runs calls on a connection.
        wait_for_disk: Whether commits wait for the disk, as by default. False is safe if a later
            commit waits.
    """

    name = None

    def __init__(self, make: Caller, *, wait_for_disk: bool = True) -> None:
        self._make = make
        self._wait_for_disk = wait_for_disk

    async def put(self, blob_id: UUID, seq: int, content: bytes) -> None:
        """Insert the row of a chunk, unless it exists."""
        need_trio("PostgresStore.put()")

        async def write(connection: AsyncConnection[Any]) -> bool:
            async with connection.cursor(binary=True) as cursor:
                await cursor.execute(WRITE, [blob_id, Int4(seq), content, self._wait_for_disk])
                ((written,),) = await cursor.fetchall()
                return bool(written)

        if not await self._make(write):
            raise BlobMissing(blob_id)

    async def get(self, blob_id: UUID, seqs: Sequence[int]) -> list[bytes]:
        """Select the rows of chunks."""
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
