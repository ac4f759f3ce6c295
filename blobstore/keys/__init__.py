"""Encryption at rest: the ring of keys, the seals, and the places that seals prove."""

from blobstore.keys.ring import KeyRing, KeyRingError

__all__ = ["KeyRing", "KeyRingError"]
