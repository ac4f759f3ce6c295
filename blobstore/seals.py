"""What stands between the bytes of a blob and where they are kept: nothing, or its key."""

from uuid import UUID

from blobstore.abc import BlobKey, Keys
from blobstore.errors import BlobDamaged, KeyMissing

CONTENT = b"content"
DIGEST = b"sha256"


def chunk_part(seq: int) -> bytes:
    """The name of a chunk."""
    return seq.to_bytes(4)


class Seal:
    """Seals the parts of one blob; without a key they stay in clear.

    A part opens only as what it was sealed as: the content, the digest or that chunk of this
    blob.

    Args:
        blob_id: The blob.
        key: Its key.
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
        """Encrypt a chunk, or else mark it, so that no other is taken for it."""
        part = chunk_part(seq)
        return self.seal(plain, part) if self._key else plain + self._bound + part

    def open_chunk(self, seq: int, sealed: bytes) -> bytes:
        """Decrypt a chunk.

        Raises:
            ValueError: It is not what was sealed, or another chunk.
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
            ValueError: It is not what was sealed.
        """
        return self._key.open(sealed, self._bound + part) if self._key else sealed


def new_seal(blob_id: UUID, keys: Keys | None) -> tuple[Seal, str | None, bytes | None]:
    """A seal for a new blob, and what its row says of it: `key_id` and `data_key`."""
    if keys is None:
        return Seal(blob_id, None), None, None
    key, wrapped = keys.new_key(blob_id.bytes)
    return Seal(blob_id, key), keys.active, wrapped


def seal_of(blob_id: UUID, key_id: str | None, data_key: bytes | None, keys: Keys | None) -> Seal:
    """The seal of a blob.

    Raises:
        KeyMissing: It was sealed with a key that we do not have.
        BlobDamaged: Its own key is not what was written.
    """
    if key_id is None:
        return Seal(blob_id, None)
    if keys is None:
        raise KeyMissing(key_id)
    try:
        return Seal(blob_id, keys.unwrap(key_id, data_key or b"", blob_id.bytes))
    except ValueError as error:
        raise BlobDamaged(blob_id, f"its key: {error}") from error
