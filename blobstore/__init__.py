"""Values of any size for steps: small ones inline as JSON, large ones as blobs.

    blobs = Blobs(make)  # make runs a call on a connection
    kept = await blobs.encode(page, Owner(run_id, "fetch", attempt=1))
    if isinstance(kept, Stored):  # a small value is Inline: its JSON goes into the row
        async with connection.transaction():
            await blobs.save(connection, [kept])

        loaded = await blobs.load([kept.id])  # no query if the cache has the value
        page = await loaded.get(kept.id)

docs/guide/values.md says what a value may be, and what comes back.
"""

from blobstore.abc import BlobStore, Keys
from blobstore.blobs import Blobs
from blobstore.errors import (
    BlobDamaged,
    BlobError,
    BlobForgotten,
    BlobMissing,
    BlobMisuse,
    BlobUnavailable,
    KeyMissing,
    NotAList,
    NotSealed,
    ValueRefused,
    ValueTooLarge,
)
from blobstore.handle import Blob, BlobStream
from blobstore.keys.places import Place
from blobstore.postgres.rows import Owner, Stored
from blobstore.postgres.store import PostgresStore
from blobstore.reading import Loaded
from blobstore.values.codec import Inline

__all__ = [
    "Blob",
    "BlobDamaged",
    "BlobError",
    "BlobForgotten",
    "BlobMissing",
    "BlobMisuse",
    "BlobStore",
    "BlobStream",
    "BlobUnavailable",
    "Blobs",
    "Inline",
    "KeyMissing",
    "Keys",
    "Loaded",
    "NotAList",
    "NotSealed",
    "Owner",
    "Place",
    "PostgresStore",
    "Stored",
    "ValueRefused",
    "ValueTooLarge",
]
