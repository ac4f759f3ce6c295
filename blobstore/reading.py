"""Reads values that are loaded together."""

from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from copy import deepcopy
from dataclasses import replace
from functools import partial
from hashlib import sha256
from io import BytesIO
from typing import Any
from uuid import UUID

import trio

from blobstore.chunks import Chunks, check
from blobstore.depot import HEAVY, Depot
from blobstore.errors import BlobDamaged, BlobForgotten, BlobMissing, ValueTooLarge
from blobstore.handle import Blob
from blobstore.keys.places import Place, open_digest
from blobstore.keys.seals import CONTENT
from blobstore.postgres import rows
from blobstore.postgres.rows import BlobRow
from blobstore.trio_only import need_trio
from blobstore.values.codec import Payload, parse, restore, unpack
from blobstore.values.weight import LIGHT, Scale, check_weight


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
        self, blob_id: UUID, place: Place | None = None, scale: Scale | None = None
    ) -> Any:
        """Return the value of a blob. Each call makes a new list or dict.

        A checkpoint. Large blobs are decompressed in a thread. A cancellation waits for the thread
        (milliseconds). JSON is parsed outside of threads, at about 6 ms a megabyte, because orjson
        stops every other thread meanwhile.

        Args:
            blob_id: One of the loaded blobs.
            place: The place that the value must have; None if only its id is known.
            scale: Weighs the value together with the others of one list.

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
        self._depot.admit(blob_id, self._depot.place_of(row), place)
        if row.elements is not None:
            return await Reading(self._depot, row).elements()
        # A second reader waits, and then finds the value in the cache.
        async with self._turns[blob_id]:
            payload = await Reading(self._depot, row).payload()
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

    def handle(self, blob_id: UUID, place: Place | None = None) -> Blob[Any]:
        """Return the handle of a blob; `place` and errors as for :meth:`get`."""
        row = self.row(blob_id)
        digest, found = open_digest(row, self._depot.seal_of(row))
        self._depot.admit(blob_id, found, place)
        return Blob(row, digest, Reading(self._depot, row))


class Reading:
    """Reads one blob."""

    def __init__(self, depot: Depot, row: BlobRow) -> None:
        self._depot = depot
        self._row = row
        self._inline: list[Any] | None = None

    async def value(self) -> Any:
        """Get the value."""
        if self._row.elements is not None:
            return await self.elements()
        return parse(self._row.id, await self.payload())

    async def payload(self) -> Payload:
        """Get the payload, from the cache if possible."""
        row, cache = self._row, self._depot.cache
        if (payload := cache.get(row.id)) is not None:
            await trio.lowlevel.checkpoint()
            return payload
        self._check_size()
        raw = await self._whole()
        if row.kind == "json":
            await self._check_weight(raw)
        is_long = row.kind == "text" and len(raw) > HEAVY
        payload = await self._depot.work(is_long, partial(restore, row.id, row.kind, raw))
        if row.key_id is not None:  # a reader of the cache must know the place
            payload = replace(payload, place=self._depot.place_of(row))
        cache.put(row.id, payload)
        return payload

    def _check_size(self) -> None:
        self._check_elements()
        size = (self._row.raw_size or 0) + (self._row.elements_size or 0)
        if size > self._depot.cap:
            raise ValueTooLarge(
                f"blob {self._row.id} has {size:,} bytes, the cap is {self._depot.cap:,}:"
                " take it as a handle and read it in pieces"
            )

    async def _check_weight(self, raw: bytes) -> None:
        try:
            await self._depot.work(len(raw) > LIGHT, partial(check_weight, raw))
        except ValueTooLarge as error:
            raise ValueTooLarge(f"blob {self._row.id}: {error}") from None

    def _check_elements(self) -> None:
        if self._row.misplaced:
            raise BlobDamaged(
                self._row.id,
                f"its element {self._row.misplaced} is a list, or belongs to another run",
            )

    async def _whole(self) -> bytes:
        if self._row.chunk_size is None:
            return await self._content()
        # getvalue() of a BytesIO does not copy.
        whole = BytesIO()
        async with aclosing(self._chunks(0, None)) as pieces:
            async for piece in pieces:
                whole.write(piece)
        return whole.getvalue()

    async def _content(self) -> bytes:
        row = self._row
        content = row.content if row.content is not None else await self._depot.content(row)

        seal, dictionary = self._depot.seal_of(row), self._depot.dictionary_of(row)

        def open_content() -> bytes:
            packed = seal.open(content, CONTENT)
            raw = unpack(row.codec, packed, row.raw_size or 0, dictionary)
            check(row, seal, sha256(raw).digest())
            return raw

        try:
            return await self._depot.work((row.raw_size or 0) > HEAVY, open_content)
        except ValueError as error:
            raise BlobDamaged(row.id, str(error)) from error

    async def pieces(self, start: int, stop: int | None) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a range. Of a blob in chunks, only the needed chunks are read."""
        row = self._row
        if row.elements is not None:
            raise TypeError(f"blob {row.id} is a list: call value() or item()")
        async with aclosing(self.own_pieces(start, stop)) as pieces:
            async for piece in pieces:
                yield piece

    async def own_pieces(self, start: int, stop: int | None) -> AsyncGenerator[bytes, None]:
        """Do the same, also for a list: yield its JSON, with null for elements that are blobs."""
        if self._row.chunk_size is None:
            yield (await self._content())[start:stop]
        else:
            async with aclosing(self._chunks(start, stop)) as pieces:
                async for piece in pieces:
                    yield piece

    async def _chunks(self, start: int, stop: int | None) -> AsyncGenerator[bytes, None]:
        row, depot = self._row, self._depot
        chunks = Chunks(row, depot.seal_of(row), depot.store(row), depot.work)
        try:
            async with aclosing(chunks.read(start, stop)) as pieces:
                async for piece in pieces:
                    yield piece
        except BlobMissing:
            # The blob may have been forgotten after its row was read.
            await depot.raise_if_forgotten(row)
            raise

    async def elements(self) -> list[Any]:
        """Get all elements of a list."""
        row = self._row
        self._check_size()
        scale = Scale()
        values = await self._frame(scale)
        ids = [element for element in row.elements or () if element]
        loaded = await load(self._depot, ids)
        for place, element in enumerate(row.elements or ()):
            if element:
                values[place] = await loaded.get(element, self._place(place), scale)
        return values

    async def element(self, index: int) -> Any:
        """Get one element of a list, without the others."""
        self._check_elements()
        element = (self._row.elements or [])[index]
        if element is None:
            if self._inline is None:
                self._inline = await self._frame()
            return deepcopy(self._inline[index])  # each reader gets its own copy
        return await (await load(self._depot, [element])).get(element, self._place(index))

    def _place(self, index: int) -> Place:
        """Return the place of an element."""
        return Place.of(self._row).element(self._row.id, index)

    async def _frame(self, scale: Scale | None = None) -> list[Any]:
        """Get the list, with None for each element that is a blob."""
        raw = await self._content()
        await self._check_weight(raw)
        frame = weighed(self._row.id, Payload("json", raw), scale)
        if not isinstance(frame, list) or len(frame) != len(self._row.elements or ()):
            raise BlobDamaged(self._row.id, "its list and its elements do not match")
        return frame


def weighed(blob_id: UUID, payload: Payload, scale: Scale | None) -> Any:
    """Parse a value. Raise if it is too large together with the values on the scale."""
    if scale and isinstance(payload.data, bytes) and payload.kind == "json":
        try:
            scale.add(payload.data)
        except ValueTooLarge as error:
            raise ValueTooLarge(f"blob {blob_id}: with the rest of its list, {error}") from None
    return parse(blob_id, payload)
