"""What encoding and loading share: the database, the cache, threads, keys and dictionaries."""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import TypeVar
from uuid import UUID

import trio

from blobstore.abc import BlobStore, Caller, Keys
from blobstore.cache import Cache
from blobstore.errors import BlobDamaged, BlobForgotten, BlobMissing, BlobUnavailable
from blobstore.keys.places import Place, admit, open_digest
from blobstore.keys.seals import Seal, seal_of
from blobstore.postgres import rows
from blobstore.postgres.rows import BlobRow, Owner
from blobstore.postgres.store import PostgresStore
from blobstore.values.dictionaries import Dictionary

T = TypeVar("T")

FILES = 16  # that are read at a time

DICTIONARY_LIMIT = 64 * 1024  # bytes

# Bytes. To compress and digest them takes half a millisecond, and to decompress and check them a
# quarter. To run an empty job in a thread takes an eighth.
HEAVY = 128 * 1024


class Depot:
    """The shared objects of a `Blobs`, which describes the arguments."""

    def __init__(
        self,
        make: Caller,
        *,
        cap: int,
        cache_budget: int,
        chunk_size: int,
        keys: Keys | None,
        objects: BlobStore | None,
        object_threshold: int,
        sealed_only: datetime | None = None,
    ) -> None:
        self.make = make
        self.cap = cap
        self.chunk_size = chunk_size
        self.objects = objects
        self.object_threshold = object_threshold
        self.cache = Cache(cache_budget)
        self.keys = keys
        self.sealed_only = sealed_only
        # Not trio's own limiter: handlers may hold all of its threads for hours.
        self._threads = trio.CapacityLimiter(os.cpu_count() or 1)
        self.files = trio.CapacityLimiter(FILES)
        self._dictionaries: dict[int, Dictionary] = {}
        self._newest: dict[tuple[str, str], Dictionary] = {}

    async def use_dictionaries(self, flow_slugs: Sequence[str]) -> None:
        """From now on, compress with the newest dictionary of each step of these flows."""
        newest = await self.make(partial(rows.newest_dictionaries, flow_slugs=flow_slugs))
        await self.learn(newest.values())
        self._newest = {
            step: self._dictionaries[number]
            for step, number in newest.items()
            if number in self._dictionaries
        }

    def dictionary(self, owner: Owner, size: int) -> Dictionary | None:
        """Return the dictionary that compresses outputs of this step, if any.

        None with keys, because a dictionary holds unencrypted pieces of its samples. None for
        large values, because a dictionary does not help them.
        """
        if self.keys is not None or size > DICTIONARY_LIMIT:
            return None
        return self._newest.get((owner.flow_slug, owner.step_slug))

    def dictionary_of(self, row: BlobRow) -> Dictionary | None:
        """Return the dictionary that a blob was compressed with, if any.

        Raises:
            BlobDamaged: The dictionary does not exist.
        """
        if row.dictionary_id is None:
            return None
        if dictionary := self._dictionaries.get(row.dictionary_id):
            return dictionary
        raise BlobDamaged(row.id, f"there is no dictionary {row.dictionary_id}")

    def seal_of(self, row: BlobRow) -> Seal:
        """Return the seal of a blob."""
        return seal_of(row.id, row.key_id, row.data_key, self.keys)

    def place_of(self, row: BlobRow) -> Place | None:
        """Return the place that the seal of a blob names; None if it is not encrypted."""
        return open_digest(row, self.seal_of(row))[1]

    def admit(self, blob_id: UUID, found: Place | None, wanted: Place | None) -> None:
        """Check that a value is the requested one; see :func:`blobstore.keys.places.admit`."""
        admit(blob_id, found, wanted, self.sealed_only)

    async def learn(self, numbers: Iterable[int | None]) -> None:
        """Load the dictionaries that are not in memory yet. A dictionary never changes."""
        unknown = {number for number in numbers if number is not None} - self._dictionaries.keys()
        if not unknown:
            return
        fetched = await self.make(partial(rows.fetch_dictionaries, numbers=list(unknown)))
        for number, content in fetched.items():
            with suppress(ValueError):  # a read of such a blob raises
                self._dictionaries[number] = await self.work(
                    True, partial(Dictionary, number, content)
                )

    async def content(self, row: BlobRow) -> bytes:
        """Get the content of a small blob whose row was read without it.

        Raises:
            BlobMissing: The blob was deleted meanwhile.
            BlobForgotten: The bytes were deleted meanwhile.
        """
        for again in await self.make(partial(rows.fetch, ids=[row.id], content=True)):
            if again.content is not None:
                return again.content
            raise BlobForgotten(row.id)
        raise BlobMissing(row.id)

    async def raise_if_forgotten(self, row: BlobRow) -> None:
        """Read a row again.

        Raises:
            BlobForgotten: The bytes were deleted meanwhile.
        """
        for again in await self.make(partial(rows.fetch, ids=[row.id], content=False)):
            if again.forgotten:
                raise BlobForgotten(row.id)

    def store(self, row: BlobRow) -> BlobStore:
        """Return the store of a blob's chunks.

        Raises:
            BlobUnavailable: This process does not have the store.
        """
        if row.store is None:
            return PostgresStore(self.make)
        if self.objects is not None and self.objects.name == row.store:
            return self.objects
        raise BlobUnavailable(
            f"blob {row.id} is kept in the store {row.store[:40]!r},"
            " which this process does not have: configure it"
        )

    async def work(self, heavy: bool, job: Callable[[], T]) -> T:
        """Run a job, in a thread if it may take more than half a millisecond."""
        if heavy:
            return await trio.to_thread.run_sync(job, limiter=self._threads)
        await trio.lowlevel.checkpoint()
        return job()
