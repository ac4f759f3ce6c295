"""Reads blobs for the commands that show or copy them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from blobstore import Blobs, BlobStore, Keys
from blobstore.abc import caller_of
from pgflow_events.postgres.connection import Connection
from pgflow_events.settings import check_sealed_only


@asynccontextmanager
async def open_blobs(
    dsn: str,
    keys: Keys | None = None,
    objects: BlobStore | None = None,
    sealed_only: datetime | None = None,
) -> AsyncIterator[tuple[Connection, Blobs]]:
    """Give a connection, and a reader of blobs that uses it. The reader keeps no blob in memory.

    Args:
        dsn: The database.
        keys: The keys that decrypt blobs.
        objects: The object storage.
        sealed_only: Unencrypted values of runs that started at this time or later are refused.
    """
    check_sealed_only(sealed_only, keys)
    async with await Connection.connect(dsn) as connection:
        yield (
            connection,
            Blobs(
                caller_of(connection),
                cache_budget=0,
                keys=keys,
                objects=objects,
                sealed_only=sealed_only,
            ),
        )
