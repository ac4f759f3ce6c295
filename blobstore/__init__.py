"""Values of any size for steps: small ones inline as JSON, large ones as blobs.

    blobs = Blobs()
    kept = await blobs.encode(page)                       # Inline or Blob
    await blobs.save(connection, [(run_id, kept)])        # a Blob, in your transaction

    loaded = await blobs.load(pool.connection, ids)       # one query, or none
    page = await loaded.get(blob_id)

What may be a value, and what comes back, is in docs/values.md.
"""

import os
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import trio
from psycopg import AsyncConnection

from blobstore.cache import Cache
from blobstore.codec import Blob, Inline, Payload, pack, parse, serialize, unpack
from blobstore.errors import BlobDamaged, BlobError, BlobMissing, ValueRefused, ValueTooLarge
from blobstore.store import BlobStore, PostgresStore
from blobstore.values import is_wide

__all__ = [
    "Blob",
    "BlobDamaged",
    "BlobError",
    "BlobMissing",
    "BlobStore",
    "Blobs",
    "Inline",
    "Loaded",
    "PostgresStore",
    "ValueRefused",
    "ValueTooLarge",
]

KIB = 1024
MIB = 1024 * KIB

# Bytes that are compressed and digested in half a millisecond, and checked and decompressed
# in a quarter; a visit to a thread takes an eighth.
HEAVY = 256 * KIB

T = TypeVar("T")


class Loaded:
    """The values of the blobs that were asked for together.

    What is wrong with one of them is told to those who ask for that one only. A blob stays
    compressed until somebody does.

    Args:
        found: What there is, by blob id.
        unpack: Checks and decompresses a blob.
    """

    def __init__(
        self,
        found: Mapping[UUID, Payload | Blob],
        unpack: Callable[[Blob], Awaitable[Payload]],
    ) -> None:
        self._found = found
        self._unpack = unpack
        self._turns = {blob_id: trio.Lock() for blob_id in found}

    async def get(self, blob_id: UUID) -> Any:
        """Give the value of a blob: a list or dict is a new one each time.

        A checkpoint. Large blobs are decompressed in a thread, and a cancellation waits
        for that (milliseconds). JSON is parsed right here however large it is (some 6 ms a
        megabyte), since orjson would stop every other thread meanwhile.

        Args:
            blob_id: One of those that were asked for.

        Raises:
            BlobMissing: There is no such blob.
            BlobDamaged: It is not what was written.
        """
        found = self._found.get(blob_id)
        if found is None:
            raise BlobMissing(blob_id)
        # The second of two readers finds in the cache what the first one unpacked.
        async with self._turns[blob_id]:
            payload = found if isinstance(found, Payload) else await self._unpack(found)
        return parse(blob_id, payload)


class Blobs:
    """Encodes, saves and loads values; each worker or client owns one.

    Args:
        store: Where blobs are kept; by default in the table `pgflow.output_blobs`.
        threshold: Bytes of JSON up to which a value is kept inline.
        cap: Bytes a value may have, before compression.
        cache_budget: Bytes of memory for what was written or read last.
    """

    def __init__(
        self,
        store: BlobStore | None = None,
        *,
        threshold: int = 8 * KIB,
        cap: int = 64 * MIB,
        cache_budget: int = 64 * MIB,
    ) -> None:
        self._store = store or PostgresStore()
        self._threshold = threshold
        self._cap = cap
        self._cache = Cache(cache_budget)
        # Not trio's own limiter: handlers may hold all of its threads for hours.
        self._threads = trio.CapacityLimiter(os.cpu_count() or 1)

    async def encode(self, value: object, threshold: int | None = None) -> Inline | Blob:
        """Make of a value what can be stored.

        A checkpoint. Large values are encoded in a thread, and a cancellation waits for
        that (milliseconds).

        Args:
            value: What a handler returned; it must not change until this returns.
            threshold: Bytes of JSON up to which it is kept inline, instead of the default.

        Raises:
            ValueRefused: It could not come back as it was; the message names the place.
            ValueTooLarge: It is larger than the cap.
        """
        limit = self._threshold if threshold is None else threshold
        form = await self._work(
            is_wide(value), partial(serialize, value, threshold=limit, cap=self._cap)
        )
        if isinstance(form, Inline):
            return form
        blob = await self._work(len(form.data) > HEAVY, partial(pack, form, cap=self._cap))
        self._cache.put(blob.id, form)
        return blob

    async def save(
        self, connection: AsyncConnection[Any], run_blobs: Sequence[tuple[UUID, Blob]]
    ) -> None:
        """Save blobs in the caller's transaction, each with the run it belongs to.

        The runs must be there already. Saving a blob twice is saving it once.

        Raises:
            psycopg.Error: They cannot be saved; the transaction has failed.
        """
        await self._store.save(connection, run_blobs)

    async def load(
        self,
        connect: Callable[[], AbstractAsyncContextManager[AsyncConnection[Any]]],
        ids: Collection[UUID],
    ) -> Loaded:
        """Get blobs: with one query for those that are not in the cache, or with none.

        A checkpoint.

        Args:
            connect: Lends a connection, such as a pool's method; not called without need.
            ids: The blobs. One that is missing is an error only to those who ask for it.

        Raises:
            psycopg.Error: The query failed.
        """
        found: dict[UUID, Payload | Blob] = {
            blob_id: payload for blob_id in ids if (payload := self._cache.get(blob_id)) is not None
        }
        if absent := set(ids) - found.keys():
            async with connect() as connection:
                blobs = await self._store.fetch(connection, list(absent))
            found |= {blob.id: blob for blob in blobs}
        else:
            await trio.lowlevel.checkpoint()
        return Loaded(found, self._unpack)

    async def _unpack(self, blob: Blob) -> Payload:
        payload = self._cache.get(blob.id)
        if payload is None:
            payload = await self._work(blob.raw_size > HEAVY, partial(unpack, blob, cap=self._cap))
            self._cache.put(blob.id, payload)
        return payload

    async def _work(self, heavy: bool, job: Callable[[], T]) -> T:
        if heavy:
            return await trio.to_thread.run_sync(job, limiter=self._threads)
        await trio.lowlevel.checkpoint()
        return job()
