"""Reads one blob."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from hashlib import sha256
from io import BytesIO
from typing import Any
from uuid import UUID

import trio

from blobstore.chunks import Chunks, check
from blobstore.depot import HEAVY, Depot
from blobstore.errors import BlobDamaged, BlobMissing, ValueTooLarge
from blobstore.keys.places import Place
from blobstore.keys.seals import CONTENT
from blobstore.postgres.rows import BlobRow
from blobstore.values.codec import Payload, parse, restore, unpack
from blobstore.values.weight import LIGHT, Scale, check_weight


class Reading:
    """Reads one blob.

    Args:
        depot: The database, the keys and the other shared objects.
        row: The blob.
        place: The place that it must have; None if only its id is known.
    """

    def __init__(self, depot: Depot, row: BlobRow, place: Place | None = None) -> None:
        self._depot = depot
        self._row = row
        self._wanted = place

    async def value(self) -> Any:
        """Get the value."""
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

    async def element(self, index: int) -> Any:
        """Raise IndexError: only a list has elements."""
        raise IndexError(index)

    async def ahead(self, index: int) -> Sequence[Callable[[], Awaitable[Any]]]:
        """Raise IndexError: only a list has elements."""
        raise IndexError(index)


def weighed(blob_id: UUID, payload: Payload, scale: Scale | None) -> Any:
    """Parse a value. Raise if it is too large together with the values on the scale."""
    if scale and isinstance(payload.data, bytes) and payload.kind == "json":
        try:
            scale.add(payload.data)
        except ValueTooLarge as error:
            raise ValueTooLarge(f"blob {blob_id}: with the rest of its list, {error}") from None
    return parse(blob_id, payload)
