"""Seals the parts of a blob with its key, if it has one."""

from uuid import UUID

from blobstore.abc import BlobKey, Keys
from blobstore.errors import BlobDamaged, KeyMissing

CONTENT = b"content"
DIGEST = b"sha256"


def chunk_part(seq: int) -> bytes:
    """Return the part name of a chunk."""
    return seq.to_bytes(4)


class Seal:
    """Seals the parts of one blob. Without a key, they stay unencrypted.

    A part opens only as the same part of the same blob: the content, the digest, or the chunk with
    this number.

    Args:
        blob_id: The blob.
        key: The key of the blob, if any.
    """

    def __init__(self, blob_id: UUID, key: BlobKey | None) -> None:
        self._bound = blob_id.bytes
        self._key = key

    @property
    def closed(self) -> bool:
        """Whether there is a key."""
        return self._key is not None

    def seal(self, plain: bytes, part: bytes) -> bytes:
        """Encrypt a part."""
        return self._key.seal(plain, self._bound + part) if self._key else plain

    def seal_chunk(self, seq: int, plain: bytes) -> bytes:
        """Encrypt a chunk. Without a key, append its blob's id and its number instead."""
        part = chunk_part(seq)
        return self.seal(plain, part) if self._key else plain + self._bound + part

    def open_chunk(self, seq: int, sealed: bytes) -> bytes:
        """Decrypt a chunk.

        Raises:
            ValueError: The bytes were changed, or are another chunk.
        """
        part = chunk_part(seq)
        if self._key:
            return self.open(sealed, part)
        mark = self._bound + part
        if not sealed.endswith(mark):
            raise ValueError("it is a different chunk, or was cut off")
        return sealed[: -len(mark)]

    def open(self, sealed: bytes, part: bytes) -> bytes:
        """Decrypt a part.

        Raises:
            ValueError: The bytes were changed, or are another part.
        """
        return self._key.open(sealed, self._bound + part) if self._key else sealed


def new_seal(blob_id: UUID, keys: Keys | None) -> tuple[Seal, str | None, bytes | None]:
    """Make a seal for a new blob. Returns it, and `key_id` and `data_key` of the row."""
    if keys is None:
        return Seal(blob_id, None), None, None
    key, wrapped = keys.new_key(blob_id.bytes)
    return Seal(blob_id, key), keys.active, wrapped


def seal_of(blob_id: UUID, key_id: str | None, data_key: bytes | None, keys: Keys | None) -> Seal:
    """Return the seal of a blob.

    Raises:
        KeyMissing: This process does not have the key that sealed the blob's key.
        BlobDamaged: The blob's sealed key was changed.
    """
    if key_id is None:
        return Seal(blob_id, None)
    if keys is None:
        raise KeyMissing(key_id)
    try:
        return Seal(blob_id, keys.unwrap(key_id, data_key or b"", blob_id.bytes))
    except ValueError as error:
        raise BlobDamaged(blob_id, f"its key: {error}") from error
