"""Reads values that are loaded together."""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any
from uuid import UUID

import trio

from blobstore.blob_reading import Reading, weighed
from blobstore.depot import Depot
from blobstore.errors import BlobDamaged, BlobForgotten, BlobMissing
from blobstore.handle import Blob
from blobstore.keys.places import Place, open_digest
from blobstore.list_reading import ListReading
from blobstore.postgres import rows
from blobstore.postgres.rows import BlobRow
from blobstore.trio_only import need_trio
from blobstore.values.codec import Payload
from blobstore.values.weight import Scale


async def load(depot: Depot, ids: Collection[UUID], handles: Collection[UUID] = ()) -> "Loaded":
    """Load blobs; see `Blobs.load`."""
    payloads: dict[UUID, Payload] = {
        blob_id: payload for blob_id in ids if (payload := depot.cache.get(blob_id)) is not None
    }
    found: dict[UUID, BlobRow] = {}
    for absent, content in (
        (set(ids) - payloads.keys(), True),
        (set(handles) - (set(ids) - payloads.keys()), False),
    ):
        if absent:
            read = partial(rows.fetch, ids=list(absent), content=content)
            found |= {row.id: row for row in await depot.make(read)}
    if not found:
        await trio.lowlevel.checkpoint()
    await depot.learn(row.dictionary_id for row in found.values())
    return Loaded(depot, payloads, found)


class Loaded:
    """Blobs that were loaded together.

    A blob is decompressed, and its chunks are read, only when :meth:`get` or a handle needs it.
    If a blob has a fault, only calls for this blob raise.

    Args:
        depot: The database, the keys and the other shared objects.
        payloads: The blobs that were in the cache.
        rows: The rows of the other blobs.
        turns: A lock for each blob, so that two readers do not both unpack it.
    """

    def __init__(
        self,
        depot: Depot,
        payloads: Mapping[UUID, Payload],
        rows: Mapping[UUID, BlobRow],
        turns: Mapping[UUID, trio.Lock] | None = None,
    ) -> None:
        self._depot = depot
        self._payloads = payloads
        self._rows = rows
        self._turns = turns or {blob_id: trio.Lock() for blob_id in rows}

    def only(self, ids: Collection[UUID]) -> "Loaded":
        """Return the blobs of these ids only, so that the others need not stay in memory."""
        payloads = {blob_id: found for blob_id, found in self._payloads.items() if blob_id in ids}
        rows = {blob_id: row for blob_id, row in self._rows.items() if blob_id in ids}
        return Loaded(self._depot, payloads, rows, self._turns)

    def release(self) -> None:
        """Free the memory. Handles that :meth:`handle` returned still work."""
        self._payloads, self._rows = {}, {}

    async def get(
        self,
        blob_id: UUID,
        place: Place | None = None,
        scale: Scale | None = None,
        *,
        open_list: bool = True,
    ) -> Any:
        """Return the value of a blob. Each call makes a new list or dict.

        A checkpoint. Large blobs are decompressed in a thread. A cancellation waits for the thread
        (milliseconds). JSON is parsed outside of threads, at about 6 ms a megabyte, because orjson
        stops every other thread meanwhile.

        Args:
            blob_id: One of the loaded blobs.
            place: The place that the value must have; None if only its id is known.
            scale: Weighs the value together with the others of one list.
            open_list: Whether it may be a list that is not sealed although its elements are: the
                output of a map, or what a map goes over.

        Raises:
            BlobMissing: There is no such blob.
            BlobForgotten: The bytes were deleted.
            BlobDamaged: The bytes are not those that were written, or belong to another place.
            NotSealed: The value is not encrypted, and only sealed values are accepted.
            BlobUnavailable: This process does not have the key or the store of the blob.
            ValueTooLarge: The value is larger than the cap.
        """
        need_trio("Loaded.get()")
        if blob_id in self._payloads:
            await trio.lowlevel.checkpoint()
            self._depot.admit(blob_id, self._payloads[blob_id].place, place)
            return weighed(blob_id, self._payloads[blob_id], scale)
        row = self.row(blob_id)
        self._admit(row, self._depot.place_of(row), place, open_list=open_list)
        if row.elements is not None:
            return await self._reading(row, place).value()
        # A second reader waits, and then finds the value in the cache.
        async with self._turns[blob_id]:
            payload = await self._reading(row, place).payload()
        return weighed(blob_id, payload, scale)

    def row(self, blob_id: UUID) -> BlobRow:
        """Return the row of a blob that was not in the cache."""
        row = self._rows.get(blob_id)
        if row is None:
            raise BlobMissing(blob_id)
        if row.forgotten:
            raise BlobForgotten(blob_id)
        if row.sha256 is None:
            raise BlobDamaged(blob_id, "it was never finished")
        return row

    def handle(
        self, blob_id: UUID, place: Place | None = None, *, open_list: bool = True
    ) -> Blob[Any]:
        """Return the handle of a blob; arguments and errors as for :meth:`get`."""
        row = self.row(blob_id)
        digest, found = open_digest(row, self._depot.seal_of(row))
        self._admit(row, found, place, open_list=open_list)
        return Blob(row, digest, self._reading(row, place))

    def _reading(self, row: BlobRow, place: Place | None) -> Reading:
        if row.elements is None:
            return Reading(self._depot, row, place)
        return ListReading(self._depot, row, place, load)

    def _admit(
        self, row: BlobRow, found: Place | None, place: Place | None, *, open_list: bool
    ) -> None:
        """Check that a value is the requested one. A list that is not sealed is checked later.

        Such a list has only nulls and the ids of blobs, each of which has a seal and a place.
        """
        if row.elements is None or found is not None or not open_list:
            self._depot.admit(row.id, found, place)
