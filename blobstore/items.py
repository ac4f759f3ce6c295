"""Reads the elements of a list one after the other, some of them ahead."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import trio

from blobstore.abc import Source
from blobstore.trio_only import AsyncOnly, need_trio


class BlobItems(AsyncOnly, AsyncIterator[Any]):
    """The elements of a list, in their order; see :meth:`blobstore.Blob.items`.

    Args:
        count: How many elements there are.
        source: Reads them.
    """

    how_to = "async for element in blob.items(): ..."

    def __init__(self, count: int, source: Source) -> None:
        self._count = count
        self._source = source
        self._next = 0
        self._ahead: list[Callable[[], Awaitable[Any]]] = []
        self._turn = trio.Lock()

    def __aiter__(self) -> "BlobItems":
        return self

    async def __anext__(self) -> Any:
        """Get the next element. After an error, the call after that gets the one behind it."""
        need_trio("Blob.items()")
        async with self._turn:  # several tasks may share the elements out
            if self._next >= self._count:
                raise StopAsyncIteration
            if not self._ahead:
                self._ahead = [*reversed(await self._source.ahead(self._next))]
            self._next += 1
            read = self._ahead.pop()
        return await read()
