"""What can go wrong with a value, as a tree.

    BlobError
    ├── ValueRefused         a value that could not come back as it was
    │   └── ValueTooLarge    it is larger than the cap
    ├── BlobDamaged          what is stored is not what was written
    └── BlobMissing          no blob has this id

All of them are permanent: trying again gives the same answer. Their texts are
bounded and free of NUL and lone surrogates, so that they can be stored.
"""

from uuid import UUID


class BlobError(Exception):
    """Any error this package raises on purpose."""


class ValueRefused(BlobError):
    """The value could not come back as it was; the message names the place inside it."""


class ValueTooLarge(ValueRefused):
    """The value is larger than the cap; the message names both sizes."""


class BlobDamaged(BlobError):
    """What is stored is not what was written, or not what this release can read.

    Args:
        blob_id: The blob.
        reason: What is wrong with it.
    """

    def __init__(self, blob_id: UUID, reason: str) -> None:
        super().__init__(blob_id, reason)
        self.blob_id = blob_id

    def __str__(self) -> str:
        return f"blob {self.args[0]} cannot be read: {self.args[1]}"


class BlobMissing(BlobError):
    """No blob has this id: its run was deleted, or never committed.

    Args:
        blob_id: The id that was asked for.
    """

    def __init__(self, blob_id: UUID) -> None:
        super().__init__(blob_id)
        self.blob_id = blob_id

    def __str__(self) -> str:
        return f"blob {self.args[0]} is missing"
