"""Reads blobs for the commands that show or copy them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from blobstore import Blobs, BlobStore, Keys
from blobstore.store import caller_of
from pgflow_events.connection import Connection


@asynccontextmanager
async def open_blobs(
    dsn: str, keys: Keys | None = None, objects: BlobStore | None = None
) -> AsyncIterator[tuple[Connection, Blobs]]:
    """A connection, and what reads blobs through it and keeps none in memory.

    Args:
        dsn: Where the database is.
        keys: What opens blobs that are sealed.
        objects: Where those are that are not in the database.
    """
    async with await Connection.connect(dsn) as connection:
        yield connection, Blobs(caller_of(connection), cache_budget=0, keys=keys, objects=objects)
