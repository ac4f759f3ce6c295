"""Deletes from the object storage what no row refers to."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from blobstore.objects import ObjectStore, StoredBlob

BATCH = 1000  # blobs that a sweep asks the database about at once
SHORTEST_GRACE = timedelta(hours=1)


@dataclass(slots=True)
class Swept:
    """What a sweep found, in blobs if nothing else is said.

    Attributes:
        kept: Have a row.
        young: Have an object within the grace period, so nobody asked for their row.
        removed: Had no row (and would have been removed, where it was a dry run).
        removed_objects: Objects of those.
        removed_bytes: Bytes of those.
    """

    kept: int = 0
    young: int = 0
    removed: int = 0
    removed_objects: int = 0
    removed_bytes: int = 0


async def sweep(
    store: ObjectStore,
    exists: Callable[[Sequence[UUID]], Awaitable[Collection[UUID]]],
    *,
    older_than: timedelta = timedelta(hours=24),
    now: datetime | None = None,
    dry_run: bool = False,
) -> Swept:
    """Delete the blobs that no row refers to.

    Such blobs stay behind where a worker ends between an upload and its commit, and where
    rows are deleted without their objects. Two sweeps may run at once; one that is cancelled
    or fails has deleted some, and the next one goes on.

    Args:
        store: Where to look.
        exists: Gives those of the ids whose row still needs its objects. Asked of the
            primary, about ids whose objects are older than the grace period only.
        older_than: The grace period, at least an hour: longer than any upload takes until
            its row is committed.
        now: The time it is, with a time zone; by default that of this machine's clock.
        dry_run: Count only.

    Raises:
        ValueError: The grace period is too short.
        ObjectStoreError: The storage failed.
    """
    if older_than < SHORTEST_GRACE:
        raise ValueError("the grace period of a sweep must be at least an hour")
    before = (now or datetime.now(UTC)) - older_than
    swept = Swept()
    async with aclosing(_old_ones(store, before, swept)) as batches:
        async for old in batches:
            rows = set(await exists([blob.id for blob in old]))
            orphans = [blob for blob in old if blob.id not in rows]
            if not dry_run:
                await store.discard((blob.id for blob in orphans), before=before)
            swept.kept += len(old) - len(orphans)
            swept.removed += len(orphans)
            swept.removed_objects += sum(blob.objects for blob in orphans)
            swept.removed_bytes += sum(blob.size for blob in orphans)
    return swept


async def _old_ones(
    store: ObjectStore, before: datetime, swept: Swept
) -> AsyncGenerator[list[StoredBlob], None]:
    """The blobs past the grace period, in batches; the others are counted."""
    old: list[StoredBlob] = []
    async with aclosing(store.blobs()) as blobs:
        async for blob in blobs:
            if blob.modified >= before:
                swept.young += 1
                continue
            old.append(blob)
            if len(old) == BATCH:
                yield old
                old = []
    if old:
        yield old
