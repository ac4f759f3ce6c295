"""Keeps the values that a worker wrote or read last, within a budget of bytes."""

import sys
from collections import OrderedDict
from uuid import UUID

from blobstore.values.codec import Payload


class Cache:
    """The payloads used last, by blob id.

    A blob never changes, so an entry is never stale. Only one thread may use a cache.

    Args:
        budget: The bytes of memory for all payloads. A payload that is larger than the budget is
            not kept.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._size = 0
        self._entries: OrderedDict[UUID, tuple[Payload, int]] = OrderedDict()

    @property
    def size(self) -> int:
        """The bytes of memory that the payloads take now."""
        return self._size

    def get(self, blob_id: UUID) -> Payload | None:
        """Return a payload, and mark it as used last."""
        if blob_id not in self._entries:
            return None
        self._entries.move_to_end(blob_id)
        payload, _ = self._entries[blob_id]
        return payload

    def put(self, blob_id: UUID, payload: Payload) -> None:
        """Keep a payload. Drop those that were used longest ago to make room."""
        # Not len(): with one emoji, each character of a str takes four bytes.
        size = sys.getsizeof(payload.data)
        if size > self._budget or self.get(blob_id) is not None:
            return
        self._entries[blob_id] = payload, size
        self._size += size
        while self._size > self._budget:
            _, (_, freed) = self._entries.popitem(last=False)
            self._size -= freed
