"""Writes the inputs of runs, in the transaction that then starts the runs.

Clients may not write to the tables. They call SQL functions, which accept inputs of new runs only.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.types.numeric import Int4, Int8

from blobstore.abc import Caller
from blobstore.postgres.rows import BlobRow, Stored, finishing, pipelined
from blobstore.postgres.store import PostgresStore

STORE = "select pgflow.store_input(%b, %b, %b, %b, %b, %b, %b, %b::uuid[], %b, %b, %b, %b)"

OPEN = "select pgflow.open_input(%b, %b, %b, %b, %b, %b, %b, %b, %b)"

WRITE = "select pgflow.write_input(%b, %b, %b)"

FINISH = "select pgflow.finish_input(%b, %b, %b, %b, %b, %b)"


async def save(connection: AsyncConnection[Any], stored: Sequence[Stored]) -> None:
    """Save the inputs of runs. The caller's transaction starts the runs afterwards.

    Raises:
        psycopg.Error: The inputs cannot be saved. The transaction has failed.
    """
    async with connection.cursor() as cursor:
        for group in pipelined(row for blob in stored for row in blob.rows):
            await cursor.executemany(STORE, [_parameters(row) for row in group])
        if uploads := [blob.upload for blob in stored if blob.upload]:
            await cursor.executemany(FINISH, [finishing(upload) for upload in uploads])


async def open_blob(connection: AsyncConnection[Any], row: BlobRow) -> None:
    """Begin an input in chunks. The same transaction starts its run afterwards."""
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(
            OPEN,
            [
                row.id,
                row.run_id,
                row.kind,
                row.media_type,
                row.codec,
                row.key_id,
                row.data_key,
                row.store,
                Int4(row.chunk_size or 0),
            ],
        )


class InputStore:
    """Writes the chunks of inputs to the database, in the transaction that starts their runs.

    Args:
        make: Runs calls in that transaction.
    """

    name = None

    def __init__(self, make: Caller) -> None:
        self._make = make

    async def put(self, blob_id: UUID, seq: int, content: bytes) -> None:
        """Insert the row of a chunk."""

        async def write(connection: AsyncConnection[Any]) -> None:
            async with connection.cursor(binary=True) as cursor:
                await cursor.execute(WRITE, [blob_id, Int4(seq), content])

        await self._make(write)

    async def get(self, blob_id: UUID, seqs: Sequence[int]) -> list[bytes]:
        """Select the rows of chunks."""
        return await PostgresStore(self._make).get(blob_id, seqs)


def _parameters(row: BlobRow) -> tuple[object, ...]:
    return (
        row.id,
        row.run_id,
        row.kind,
        row.media_type,
        row.codec,
        row.key_id,
        row.data_key,
        row.elements,
        None if row.raw_size is None else Int8(row.raw_size),
        row.sha256,
        row.preview,
        row.content,
    )
