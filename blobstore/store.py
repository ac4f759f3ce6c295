"""Where blobs are kept: the table `pgflow.output_blobs`."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import args_row
from psycopg.types.numeric import Int8

from blobstore.codec import Blob

# A pipeline keeps all that it was given in memory, and saves a round trip for each row:
# past a few megabytes the first weighs more.
PIPELINED_BYTES = 4 * 1024 * 1024

# A commit whose answer was lost is tried again with the same blobs.
INSERT = """
insert into pgflow.output_blobs (id, run_id, kind, codec, content, raw_size, sha256)
values (%b, %b, %b, %b, %b, %b, %b)
on conflict (id) do nothing
"""

SELECT = """
select id, kind, codec, content, raw_size, sha256
from pgflow.output_blobs
where id = any(%b)
"""


class BlobStore(Protocol):
    """Where blobs are kept."""

    async def save(
        self, connection: AsyncConnection[Any], run_blobs: Sequence[tuple[UUID, Blob]]
    ) -> None:
        """Save blobs, each with the run it belongs to.

        Part of the caller's transaction: what refers to a blob commits with it. Saving a
        blob twice is saving it once.

        Raises:
            psycopg.Error: The blobs cannot be saved; the transaction has failed.
        """
        ...

    async def fetch(self, connection: AsyncConnection[Any], ids: Sequence[UUID]) -> Sequence[Blob]:
        """Get those of these blobs that there are, in any order, with one query.

        Raises:
            psycopg.Error: The query failed.
        """
        ...


class PostgresStore:
    """Keeps blobs in the database of the runs."""

    async def save(
        self, connection: AsyncConnection[Any], run_blobs: Sequence[tuple[UUID, Blob]]
    ) -> None:
        """Save blobs in the caller's transaction; their runs must be there already."""
        async with connection.cursor() as cursor:
            for group in _pipelined(run_blobs):
                await cursor.executemany(INSERT, [_row(*run_blob) for run_blob in group])

    async def fetch(self, connection: AsyncConnection[Any], ids: Sequence[UUID]) -> Sequence[Blob]:
        """Get those of these blobs that there are, with one query."""
        async with connection.cursor(binary=True, row_factory=args_row(Blob)) as cursor:
            await cursor.execute(SELECT, [list(ids)])
            return await cursor.fetchall()


def _row(run_id: UUID, blob: Blob) -> tuple[object, ...]:
    return (
        blob.id,
        run_id,
        blob.kind,
        blob.codec,
        blob.content,
        Int8(blob.raw_size),  # always of one type, or each size is another statement
        blob.sha256,
    )


def _pipelined(run_blobs: Iterable[tuple[UUID, Blob]]) -> Iterator[list[tuple[UUID, Blob]]]:
    """Groups that go through one pipeline each."""
    group: list[tuple[UUID, Blob]] = []
    size = 0
    for run_blob in run_blobs:
        length = len(run_blob[1].content)
        if group and size + length > PIPELINED_BYTES:
            yield group
            group, size = [], 0
        group.append(run_blob)
        size += length
    if group:
        yield group
