"""Reads lists that are stored by their elements."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from copy import deepcopy
from functools import partial
from typing import Any, Protocol
from uuid import UUID

import trio

from blobstore.blob_reading import Reading, weighed
from blobstore.depot import Depot
from blobstore.errors import BlobDamaged
from blobstore.keys.places import Place
from blobstore.postgres.rows import OF_TASKS, BlobRow
from blobstore.values.codec import Payload
from blobstore.values.weight import Scale

# The elements of a list that are in memory together: how many, and how many bytes of them.
MOST, MOST_BYTES = 500, 8 * 1024 * 1024


class Loads(Protocol):
    """Blobs that were loaded together."""

    async def get(
        self, blob_id: UUID, place: Place | None = None, scale: Scale | None = None
    ) -> Any:
        """Return the value of a blob."""
        ...


class ListReading(Reading):
    """Reads one list that is stored by its elements.

    Args:
        depot: The database, the keys and the other shared objects.
        row: The list.
        place: The place that it must have; None if only its id is known.
        load: Loads blobs.
    """

    def __init__(
        self,
        depot: Depot,
        row: BlobRow,
        place: Place | None,
        load: Callable[[Depot, Collection[UUID]], Awaitable[Loads]],
    ) -> None:
        super().__init__(depot, row, place)
        self._load_blobs = load
        self._ids = row.elements or []
        self._inline: list[Any] | None = None

    async def value(self) -> list[Any]:
        """Get all elements of a list."""
        self._check_size()
        scale = Scale()
        values = await self._frame(scale)
        stop = 0
        while stop < len(values):
            start, stop = stop, self._until(stop)
            loaded = await self._load(start, stop)
            for index, element in enumerate(self._ids[start:stop], start):
                if element:
                    values[index] = await loaded.get(element, self._place(index), scale)
        return values

    async def element(self, index: int) -> Any:
        """Get one element of a list, without the others."""
        (read,) = await self._ahead(index, index + 1)
        return await read()

    async def ahead(self, index: int) -> list[Callable[[], Awaitable[Any]]]:
        """Load some elements from this one on, and return what gets each of them."""
        return await self._ahead(index, self._until(index))

    async def _ahead(self, start: int, stop: int) -> list[Callable[[], Awaitable[Any]]]:
        self._check_elements()
        if self._inline is None and None in self._ids[start:stop]:
            self._inline = await self._frame()
        loaded = await self._load(start, stop)
        return [partial(self._element, loaded, index) for index in range(start, stop)]

    async def _element(self, loaded: Loads, index: int) -> Any:
        element = self._ids[index]
        if element is None:
            await trio.lowlevel.checkpoint()
            return deepcopy((self._inline or [])[index])  # each reader gets its own copy
        return await loaded.get(element, self._place(index))

    def _until(self, start: int) -> int:
        """Return the end of the elements that are in memory together, from `start` on."""
        size, most = 0, min(start + MOST, len(self._ids))
        for index in range(start, most):
            element = self._ids[index]
            size += self._row.sizes.get(element, 0) if element else 0
            if size > MOST_BYTES and index > start:
                return index
        return most

    async def _load(self, start: int, stop: int) -> Loads:
        """Load those of these elements that are blobs."""
        ids = [element for element in self._ids[start:stop] if element]
        return await self._load_blobs(self._depot, ids)

    def _place(self, index: int) -> Place:
        """Return the place of an element."""
        place = self._wanted or Place.of(self._row)
        if self._row.task_index == OF_TASKS:
            place = place._replace(task_index=OF_TASKS)
        return place.element(self._row.id, index)

    async def _frame(self, scale: Scale | None = None) -> list[Any]:
        """Get the list, with None for each element that is a blob."""
        raw = await self._content()
        await self._check_weight(raw)
        frame = weighed(self._row.id, Payload("json", raw), scale)
        if not isinstance(frame, list) or len(frame) != len(self._ids):
            raise BlobDamaged(self._row.id, "its list and its elements do not match")
        if self._row.key_id is None and any(element is not None for element in frame):
            self._depot.admit(self._row.id, None, self._wanted)
        return frame

    async def pieces(self, start: int, stop: int | None) -> AsyncGenerator[bytes, None]:
        """Raise TypeError: the bytes are those of the elements."""
        raise TypeError(f"blob {self._row.id} is a list: call value() or item()")
        yield b""  # makes a generator of it

    def _check_size(self) -> None:
        self._check_elements()
        super()._check_size()

    def _check_elements(self) -> None:
        if self._row.misplaced:
            raise BlobDamaged(
                self._row.id,
                f"its element {self._row.misplaced} is a list, or belongs to another run",
            )
