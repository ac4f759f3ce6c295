"""Values of any size for steps: small ones inline as JSON, large ones as blobs.

    blobs = Blobs(make)                                   # make: calls the database
    kept = await blobs.encode(page, Owner(run_id))        # Inline or Stored
    await blobs.save(connection, [kept])                  # what is Stored, in your transaction

    loaded = await blobs.load(ids)                        # one query, or none
    page = await loaded.get(blob_id)

What may be a value, and what comes back, is in docs/guide/values.md.
"""

from blobstore.abc import BlobStore, Keys
from blobstore.blobs import Blobs
from blobstore.codec import Inline
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
from blobstore.places import Place
from blobstore.reading import Loaded
from blobstore.rows import Owner, Stored
from blobstore.store import PostgresStore

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
