"""Deletes what has been kept long enough: the bytes of blobs, days of blobs, and runs.

Each step is a commit of its own that leaves nothing half done. So pruning may be interrupted at
any moment, workers may run meanwhile, and several processes may prune at once.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import trio
from psycopg import AsyncConnection, errors

from blobstore.abc import Caller

T = TypeVar("T")

BATCH = 500  # runs deleted, or blobs forgotten, in one commit of some ten milliseconds
MESSAGES = 5000  # messages deleted in one commit: they are cheaper

# If two transactions block each other, such as a migration and ours, the server rolls one back.
# If that is ours, it is repeated.
IN_THE_WAY = (errors.DeadlockDetected, errors.SerializationFailure, errors.LockNotAvailable)

TRIES = 5  # attempts to lock a day that others use, and to make a call that others block
PAUSE = 0.1  # seconds between two attempts, in which the sessions that we blocked go on

DAY = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # earlier moments would give the largest ids


@dataclass(slots=True)
class Pruned:
    """What was deleted, or would be.

    Attributes:
        days: Days whose partition was dropped, with all of its blobs.
        busy_days: Days that could not be dropped, because other sessions used them all the time.
            Their runs are left to the next call.
        forgotten: Blobs whose bytes were deleted because their `keep_output` was over.
        runs: Runs.
        tasks: Tasks of these runs.
        blobs: Blobs of these runs and days.
        bytes: Stored bytes of these blobs and of the forgotten ones.
        messages: Archived messages of the queues.
        dictionaries: Compression dictionaries that no blob needs any more.
    """

    days: list[date] = field(default_factory=list)
    busy_days: list[date] = field(default_factory=list)
    forgotten: int = 0
    runs: int = 0
    tasks: int = 0
    blobs: int = 0
    bytes: int = 0
    messages: int = 0
    dictionaries: int = 0


async def cutoff(make: Caller, age: timedelta, *, whole_days: bool = False) -> datetime:
    """The moment `age` ago, by the clock of the server, but not before 1970.

    Args:
        make: Makes calls.
        age: How long runs are kept after their end.
        whole_days: Whether an age of a day or more is counted from the last midnight in UTC.
            Then runs are deleted together, by dropping their day. Otherwise each call deletes
            row by row the runs that have just become too old, and leaves the day empty.
    """
    (now,) = await _fetch_one(make, "select clock_timestamp()")
    if whole_days and age >= DAY:
        now = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    moment: datetime = now - min(age, now - EPOCH)
    return moment


async def prunable(make: Caller, older_than: datetime) -> Pruned:
    """What :func:`prune` would delete now, with this cutoff."""
    days, forgotten, runs, tasks, blobs, stored, messages, dictionaries = await _fetch_one(
        make, "select * from pgflow.prunable(%s)", older_than
    )
    return Pruned(days, [], forgotten, runs, tasks, blobs, stored, messages, dictionaries)


async def prune(make: Caller, older_than: datetime, pruned: Pruned | None = None) -> Pruned:
    """Delete the runs that ended before this moment, with everything that belongs to them.

    A checkpoint. If it is cancelled, what was committed stays deleted, and the next call goes on.

    Args:
        make: Makes calls, each a commit of its own.
        older_than: The moment, with a time zone.
        pruned: Counts what was deleted, so that a caller who interrupts the call can read it.

    Raises:
        psycopg.Error: A call failed. What was deleted before stays deleted.
    """
    pruned = pruned or Pruned()
    await forget(make, pruned)
    (dictionaries,) = await _fetch_one(make, "select pgflow.delete_dictionaries()")
    pruned.dictionaries += dictionaries
    for (day,) in await _fetch(make, "select day from pgflow.blob_days()"):
        await _drop_day(make, day, older_than, pruned)
    await _delete_runs(make, older_than, pruned)
    for (slug,) in await _fetch(make, "select flow_slug from pgflow.flows"):
        await _delete_archived(make, slug, older_than, pruned)
    return pruned


def again(make: Caller) -> Caller:
    """Make calls as `make` does, and repeat a call that others block, up to five times in all."""

    async def persist(call: Callable[[AsyncConnection[Any]], Awaitable[T]]) -> T:
        for left in reversed(range(TRIES)):
            try:
                return await make(call)
            except IN_THE_WAY:
                if not left:
                    raise
            await trio.sleep(PAUSE)
        raise AssertionError

    return persist


async def forget(make: Caller, pruned: Pruned) -> None:
    """Delete the bytes of blobs whose `keep_output` is over."""
    blobs = BATCH
    while blobs:
        blobs, stored = await _fetch_one(make, "select * from pgflow.forget_blobs(%s)", BATCH)
        pruned.forgotten += blobs
        pruned.bytes += stored


async def ensure_days(make: Caller) -> None:
    """Create the partitions for the blobs of the next days, if they are missing."""
    await _fetch_one(make, "select pgflow.ensure_blob_days()")


async def _drop_day(make: Caller, day: date, older_than: datetime, pruned: Pruned) -> None:
    # A session that keeps one day in use mostly keeps all of them in use.
    for again in range(1 if pruned.busy_days else TRIES):
        if again:
            await trio.sleep(PAUSE)
        outcome, blobs, stored = await _fetch_one(
            make, "select * from pgflow.drop_blob_day(%s, %s)", day, older_than
        )
        if outcome == "dropped":
            pruned.days.append(day)
            pruned.blobs += blobs
            pruned.bytes += stored
        if outcome != "busy":
            return
    pruned.busy_days.append(day)


async def _delete_runs(make: Caller, older_than: datetime, pruned: Pruned) -> None:
    after: UUID | None = None
    while True:
        # Each batch begins after the last one. From the start, it would read what was deleted.
        after, runs, tasks, blobs, stored = await _fetch_one(
            make,
            "select * from pgflow.delete_runs(%s, %s, %s, %s::date[])",
            older_than,
            after,
            BATCH,
            pruned.busy_days,
        )
        if after is None:
            return
        pruned.runs += runs
        pruned.tasks += tasks
        pruned.blobs += blobs
        pruned.bytes += stored


async def _delete_archived(make: Caller, slug: str, older_than: datetime, pruned: Pruned) -> None:
    deleted = MESSAGES
    while deleted == MESSAGES:
        (deleted,) = await _fetch_one(
            make, "select pgflow.delete_archived(%s, %s, %s)", slug, older_than, MESSAGES
        )
        pruned.messages += deleted


async def _fetch_one(make: Caller, statement: str, *parameters: object) -> tuple[Any, ...]:
    (row,) = await _fetch(make, statement, *parameters)
    return row


async def _fetch(make: Caller, statement: str, *parameters: object) -> Sequence[tuple[Any, ...]]:
    async def read(connection: AsyncConnection[Any]) -> list[tuple[Any, ...]]:
        cursor = await connection.execute(statement.encode(), list(parameters))
        return await cursor.fetchall()

    return await make(read)
