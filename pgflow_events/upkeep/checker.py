"""Proves that no blob is lost, left over or damaged, while workers run.

The rows are compared in one snapshot, which has each commit as a whole or not at all. Contents are
read afterwards. A blob that was deleted meanwhile is not a fault.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from blobstore import BlobError, BlobMissing, BlobStore, BlobUnavailable, KeyMissing, Keys
from blobstore.abc import Caller
from blobstore.blob_reading import Reading
from blobstore.depot import Depot
from blobstore.postgres import rows
from blobstore.postgres.rows import BlobRow
from pgflow_events.core.times import sane

MOST = 100  # faults that are listed
PAGE = 1000  # blobs looked up at once
MIB = 1024 * 1024
AT_ONCE = 16 * MIB  # bytes of contents read at once

# Dropping a partition ignores snapshots; this lock keeps all days in place meanwhile.
LOCK_DAYS = "lock table pgflow.output_blobs, pgflow.blob_chunks in access share mode"

COUNTS = f"""
select
  count(*),
  count(*) filter (where sha256 is null),
  count(*) filter (where forgotten_at is not null),
  (select count(*) from pgflow.blob_chunks),
  least(
    coalesce(sum(stored_size) filter (where forgotten_at is null), 0), 9223372036854775807
  )::bigint,
  extract(
    epoch from clock_timestamp() - min({sane("created_at")}) filter (where sha256 is null)
  )::float8
from pgflow.output_blobs
"""  # noqa: S608 - put together from constants

FAULTS = "select f.blob_id, f.fault, count(*) over () from pgflow.blob_faults() f limit %s"

NEXT_PAGE = """
select id, case when chunk_size is null then stored_size else 0 end
from pgflow.output_blobs
where (%b::uuid is null or id > %b) and sha256 is not null and forgotten_at is null
order by id limit %b
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a blob."""

    blob_id: UUID
    fault: str


@dataclass(slots=True)
class Checked:
    """What was checked, and what is wrong.

    Attributes:
        blobs: The number of all blobs.
        unfinished: Blobs that are being written.
        oldest_unfinished: Seconds since the oldest of these was begun.
        forgotten: Blobs whose bytes were deleted; their rows are left.
        chunks: Chunks in the database.
        stored_bytes: Stored bytes of all blobs that are not forgotten.
        verified: Blobs whose contents were read and match their digests.
        not_checked: How many blobs were not read, by the reason.
        faults: The first hundred faults.
        more: How many more faults there are.
    """

    blobs: int = 0
    unfinished: int = 0
    oldest_unfinished: float | None = None
    forgotten: int = 0
    chunks: int = 0
    stored_bytes: int = 0
    verified: int = 0
    not_checked: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    more: int = 0

    def names(self, blob_id: UUID) -> bool:
        """Whether a fault of this blob is told."""
        return any(fault.blob_id == blob_id for fault in self.faults)

    def add(self, fault: Fault) -> None:
        """Note a fault."""
        if len(self.faults) < MOST:
            self.faults.append(fault)
        else:
            self.more += 1


async def check(connection: AsyncConnection[Any]) -> Checked:
    """Compare rows, references and chunks with one another.

    A checkpoint. While it runs, no day of blobs can be dropped.

    Args:
        connection: A connection outside of any transaction.

    Raises:
        psycopg.Error: A query failed.
    """
    checked = Checked()
    async with connection.transaction():
        await connection.execute("set transaction isolation level repeatable read, read only")
        await connection.execute(LOCK_DAYS)
        cursor = await connection.execute(COUNTS)
        (
            checked.blobs,
            checked.unfinished,
            checked.forgotten,
            checked.chunks,
            checked.stored_bytes,
            checked.oldest_unfinished,
        ) = (await cursor.fetchall())[0]
        cursor = await connection.execute(FAULTS, [MOST])
        for blob_id, fault, count in await cursor.fetchall():
            checked.faults.append(Fault(blob_id, fault))
            checked.more = count - len(checked.faults)
    return checked


async def check_contents(
    make: Caller,
    checked: Checked,
    *,
    keys: Keys | None = None,
    objects: BlobStore | None = None,
) -> None:
    """Read each blob and compare it with its digest, some megabytes at a time.

    A checkpoint. A blob whose key or object storage this process lacks counts as not checked.

    Args:
        make: Makes calls.
        checked: Counts the results.
        keys: Decrypts sealed blobs.
        objects: The object storage, for chunks outside of the database.

    Raises:
        psycopg.Error: A query failed.
    """
    depot = Depot(
        make,
        cap=0,
        cache_budget=0,
        chunk_size=1,
        keys=keys,
        objects=objects,
        object_threshold=1,
    )
    async with aclosing(_groups(make)) as groups:
        async for ids in groups:
            group = await make(partial(rows.fetch, ids=ids, content=True))
            for row in group:
                with suppress(ValueError):  # a damaged dictionary: its blobs cannot be read
                    await depot.learn([row.dictionary_id])
                await _verify(depot, row, checked)


async def _groups(make: Caller) -> AsyncGenerator[list[UUID], None]:
    """The ids of all blobs, in groups whose contents may be in memory together."""
    after: UUID | None = None
    while page := await make(partial(_next_page, after=after)):
        group: list[UUID] = []
        size = 0
        for blob_id, stored in page:
            if group and size + stored > AT_ONCE:
                yield group
                group, size = [], 0
            group.append(blob_id)
            size += stored
        yield group
        after = group[-1]


async def _next_page(
    connection: AsyncConnection[Any], after: UUID | None
) -> Sequence[tuple[UUID, int]]:
    cursor = await connection.execute(NEXT_PAGE, [after, after, PAGE], binary=True)
    return await cursor.fetchall()


async def _verify(depot: Depot, row: BlobRow, checked: Checked) -> None:
    try:
        pieces = Reading(depot, row).pieces(0, None)
        async with aclosing(pieces):
            async for _ in pieces:
                pass
    except KeyMissing as error:
        checked.not_checked[str(error)] += 1
    except BlobUnavailable:
        checked.not_checked[f"store {row.store!r} was not given, or does not answer"] += 1
    except BlobError as error:
        # Of chunks that are lost in the database, the rows have told already.
        told = isinstance(error, BlobMissing) and row.store is None and checked.names(row.id)
        if not told and await depot.make(partial(_is_still_there, blob_id=row.id)):
            checked.add(Fault(row.id, f"it {str(error).removeprefix(f'blob {row.id} ')}"))
    else:
        checked.verified += 1


async def _is_still_there(connection: AsyncConnection[Any], blob_id: UUID) -> bool:
    cursor = await connection.execute(
        "select from pgflow.output_blobs where id = %s and forgotten_at is null", [blob_id]
    )
    return bool(await cursor.fetchall())
