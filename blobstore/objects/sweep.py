"""Deletes the objects of blobs that no row refers to."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from blobstore.objects import ObjectStore
from blobstore.objects.store import StoredBlob

BATCH = 1000  # blobs in one query of a sweep
SHORTEST_GRACE = timedelta(hours=1)


@dataclass(slots=True)
class Swept:
    """The result of a sweep.

    Attributes:
        kept: Blobs whose row needs them.
        young: Blobs with an object within the grace period. Their rows were not looked up.
        removed: Blobs without a row, which were deleted. A dry run only counts them.
        removed_objects: The number of objects of the removed blobs.
        removed_bytes: The total size of these objects, in bytes.
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

    A worker that ends between an upload and its commit leaves such blobs. So does a delete of rows
    without their objects. Two sweeps may run at the same time. A sweep that is cancelled or fails
    has deleted some blobs, and the next sweep deletes the rest.

    Args:
        store: The object storage.
        exists: Returns the ids whose row still needs its objects. It must ask the primary. It gets
            only ids whose objects are older than the grace period.
        older_than: The grace period, at least an hour and 24 hours by default. It must be longer
            than any upload and its commit take.
        now: The current time, with a time zone. None means the clock of this machine.
        dry_run: Whether to count only, and delete nothing.

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
    """Yield the blobs past the grace period, in batches. Count the others."""
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
