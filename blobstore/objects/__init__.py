"""Chunks of large values in object storage, and the sweep that deletes what no row refers to."""

from blobstore.objects.store import ObjectStore, ObjectStoreError

__all__ = ["ObjectStore", "ObjectStoreError"]
