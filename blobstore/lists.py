"""Encodes lists by their elements: each element that is not small becomes a blob."""

from collections.abc import Callable, Iterable
from io import BytesIO
from time import perf_counter
from typing import Any
from uuid import UUID

from blobstore.depot import Depot
from blobstore.errors import ValueRefused
from blobstore.keys.places import Place, digested
from blobstore.keys.seals import Seal, chunk_part
from blobstore.postgres.rows import BlobRow
from blobstore.values.codec import Inline, Payload, serialize
from blobstore.values.contract import check_size, is_brief

ELEMENT_CAP = 64 * 1024 * 1024  # bytes; an element is stored in one row

# Bytes of JSON. In a list that feeds a map, elements up to BRIEF stay inline until all of them have
# MOST: a hundred thousand URLs become no blobs. SQL reads MOST bytes of any JSON as one jsonb.
BRIEF, MOST = 512, 32 * 1024 * 1024

SLICE = 0.01  # seconds that a thread encodes elements before it looks for a cancellation

Pack = Callable[[Payload, int], tuple[BlobRow, Seal]]


class Elements:
    """The elements of one list, as far as they are encoded.

    Args:
        depot: The keys and the limits.
        list_id: The id of the list.
        place: The place of the list.
        threshold: The size of the JSON, in bytes, up to which an element stays in the list.
        pack: Makes the row of an element that is a blob, and the seal for its digest.
        feeds_map: Whether SQL reads the list, to make a task for each element.
    """

    def __init__(
        self,
        depot: Depot,
        list_id: UUID,
        place: Place,
        *,
        threshold: int,
        pack: Pack,
        feeds_map: bool,
    ) -> None:
        self._depot = depot
        self._list_id = list_id
        self._place = place
        self._threshold = threshold
        self._pack = pack
        self._feeds_map = feeds_map
        # Not a list: orjson allocates a kilobyte for each text, and its rest would stay unused.
        self._frame = BytesIO()
        self._ids: list[UUID | None] = []
        self._rows: dict[bytes, BlobRow] = {}
        self._small = self._total = 0

    @property
    def frame(self) -> bytes:
        """The list as JSON, with null for each element that is a blob."""
        return b"[%b]" % self._frame.getvalue()

    @property
    def ids(self) -> list[UUID | None]:
        """The blobs of the elements, with None for each element in the frame."""
        return self._ids

    @property
    def rows(self) -> tuple[BlobRow, ...]:
        """The rows of these blobs."""
        return tuple(self._rows.values())

    async def add_all(self, values: list[Any]) -> None:
        """Encode all elements, in a thread if they are not brief.

        Raises:
            ValueRefused: An element cannot be stored. The message begins with its index.
            ValueTooLarge: An element is too large, or all of them together are.
        """
        heavy, left = not is_brief(values), iter(values)
        while await self._depot.work(heavy, lambda: self._add_some(left)):
            pass

    def _add_some(self, values: Iterable[Any]) -> bool:
        """Encode elements for some milliseconds. Return whether some may be left."""
        until = perf_counter() + SLICE
        for value in values:
            self._add(value)
            if perf_counter() > until:
                return True
        return False

    def _add(self, value: object) -> None:
        index = len(self._ids)
        try:
            form = serialize(value, threshold=self._limit(), cap=self._depot.cap)
            if isinstance(form, Inline):
                self._append(form.json, None)
                self._small += len(form.json)
                return
            size = form.size(min(self._depot.cap, ELEMENT_CAP))
        except ValueRefused as error:
            raise type(error)(f"$[{index}]{str(error).removeprefix('$')}") from None
        self._total += size
        check_size(self._small + self._total, self._depot.cap)
        self._append(b"null", self._blob(index, form, size))

    def _append(self, json: bytes, blob_id: UUID | None) -> None:
        if self._ids:
            self._frame.write(b",")
        self._frame.write(json)
        self._ids.append(blob_id)

    def _limit(self) -> int:
        """The size up to which the next element stays in the list, which is read as a whole."""
        # With keys, no value stays inline, where it would not be encrypted.
        if self._depot.keys:
            return -1
        if self._small + self._threshold < self._depot.chunk_size:
            return self._threshold
        if self._feeds_map and self._small + BRIEF < MOST:
            return min(self._threshold, BRIEF)
        return -1

    def _blob(self, index: int, form: Payload, size: int) -> UUID:
        """Return the id of an element's blob. Equal elements are stored once.

        With keys they are not: that would reveal that they are equal.
        """
        digest = form.sha256()
        name = chunk_part(index) if self._depot.keys else form.kind.encode() + digest
        if name not in self._rows:
            row, seal = self._pack(form, size)
            at = self._place.element(self._list_id, index)
            self._rows[name] = digested(row, seal, digest, at)
        return self._rows[name].id
