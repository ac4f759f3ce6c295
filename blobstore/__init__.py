"""Values of any size for steps: small ones inline as JSON, large ones as blobs.

    blobs = Blobs(make)                                   # make: runs calls on a connection
    kept = await blobs.encode(page, Owner(run_id))        # Inline or Stored
    await blobs.save(connection, [kept])                  # inserts blobs, in your transaction

    loaded = await blobs.load(ids)                        # no query if all are in the cache
    page = await loaded.get(blob_id)

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
    "NotSealed",
    "Owner",
    "Place",
    "PostgresStore",
    "Stored",
    "ValueRefused",
    "ValueTooLarge",
]
