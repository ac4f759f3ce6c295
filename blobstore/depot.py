"""What encoding and loading share: the database, the cache, threads, keys, dictionaries."""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import TypeVar
from uuid import UUID

import trio

from blobstore import rows
from blobstore.abc import BlobStore, Caller, Keys
from blobstore.cache import Cache
from blobstore.dictionaries import Dictionary
from blobstore.errors import BlobDamaged, BlobForgotten, BlobMissing, BlobUnavailable
from blobstore.places import Place, admit, open_digest
from blobstore.rows import BlobRow, Owner
from blobstore.seals import Seal, seal_of
from blobstore.store import PostgresStore

T = TypeVar("T")

FILES = 16  # that are read at once

DICTIONARY_LIMIT = 64 * 1024  # bytes

# Bytes that are compressed and digested in half a millisecond, and checked and decompressed
# in a quarter; a visit to a thread takes an eighth.
HEAVY = 128 * 1024


class Depot:
    """Owned by a `Blobs`, which says what the arguments are."""

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
        """Compress with the newest dictionary of each step of these flows, from now on."""
        newest = await self.make(partial(rows.newest_dictionaries, flow_slugs=flow_slugs))
        await self.learn(newest.values())
        self._newest = {
            step: self._dictionaries[number]
            for step, number in newest.items()
            if number in self._dictionaries
        }

    def dictionary(self, owner: Owner, size: int) -> Dictionary | None:
        """What compresses an output of this step best; none for what is to be sealed.

        A dictionary has pieces of its samples in clear. It is of no use to large values.
        """
        if self.keys is not None or size > DICTIONARY_LIMIT:
            return None
        return self._newest.get((owner.flow_slug, owner.step_slug))

    def dictionary_of(self, row: BlobRow) -> Dictionary | None:
        """What a blob was compressed with.

        Raises:
            BlobDamaged: There is no such dictionary.
        """
        if row.dictionary_id is None:
            return None
        if dictionary := self._dictionaries.get(row.dictionary_id):
            return dictionary
        raise BlobDamaged(row.id, f"there is no dictionary {row.dictionary_id}")

    def seal_of(self, row: BlobRow) -> Seal:
        """What sealed a blob."""
        return seal_of(row.id, row.key_id, row.data_key, self.keys)

    def place_of(self, row: BlobRow) -> Place | None:
        """What a blob stands for, as its seal says; None for one in clear."""
        return open_digest(row, self.seal_of(row))[1]

    def admit(self, blob_id: UUID, found: Place | None, wanted: Place | None) -> None:
        """See that a value is the one that is asked for; see :func:`blobstore.places.admit`."""
        admit(blob_id, found, wanted, self.sealed_only)

    async def learn(self, numbers: Iterable[int | None]) -> None:
        """Get the dictionaries that are not here yet. They never change."""
        unknown = {number for number in numbers if number is not None} - self._dictionaries.keys()
        if not unknown:
            return
        fetched = await self.make(partial(rows.fetch_dictionaries, numbers=list(unknown)))
        for number, content in fetched.items():
            with suppress(ValueError):  # those who ask for such a blob are told
                self._dictionaries[number] = await self.work(
                    True, partial(Dictionary, number, content)
                )

    async def content(self, row: BlobRow) -> bytes:
        """The content of a small blob whose row was read without it.

        Raises:
            BlobMissing: It is there no more.
            BlobForgotten: Its bytes were deleted meanwhile.
        """
        for again in await self.make(partial(rows.fetch, ids=[row.id], content=True)):
            if again.content is not None:
                return again.content
            raise BlobForgotten(row.id)
        raise BlobMissing(row.id)

    async def raise_if_forgotten(self, row: BlobRow) -> None:
        """Look at a row again.

        Raises:
            BlobForgotten: Its bytes were deleted meanwhile.
        """
        for again in await self.make(partial(rows.fetch, ids=[row.id], content=False)):
            if again.forgotten:
                raise BlobForgotten(row.id)

    def store(self, row: BlobRow) -> BlobStore:
        """Where the chunks of a blob are.

        Raises:
            BlobUnavailable: In a store that this process was not given.
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
        """Do a job: in a thread, if it may take more than half a millisecond."""
        if heavy:
            return await trio.to_thread.run_sync(job, limiter=self._threads)
        await trio.lowlevel.checkpoint()
        return job()
