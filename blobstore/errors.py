"""What can go wrong with a value, as a tree.

    BlobError
    ├── ValueRefused         a value that could not come back as it was
    │   └── ValueTooLarge    it is larger than the cap
    ├── BlobMisuse           it was asked for without trio, or a stream entered by `with`
    ├── BlobDamaged          what is stored is not what was written
    ├── NotSealed            it is in clear, where only what is sealed is taken
    ├── BlobMissing          no blob has this id
    ├── BlobForgotten        its bytes were deleted, as its step or the operator asked
    └── BlobUnavailable      it is kept where this process cannot read it
        ├── KeyMissing       it was sealed with a key that this process does not have
        └── ObjectStoreError the object storage does not answer, or not us

All are permanent (trying again gives the same answer) but the last two, which are for the
operator to mend. Their texts are bounded and free of NUL and lone surrogates, so that they
can be stored.
"""

from uuid import UUID


class BlobError(Exception):
    """Any error this package raises on purpose."""


class ValueRefused(BlobError):
    """The value could not come back as it was; the message names the place inside it."""


class ValueTooLarge(ValueRefused):
    """The value is larger than the cap; the message names both sizes."""


class BlobMisuse(BlobError, RuntimeError, TypeError):
    """A value was asked for where trio does not run, or a stream of it was entered by ``with``.

    The message says what to do.
    """


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


class NotSealed(BlobError):
    """The value is in clear, or bound to its id alone, and only sealed values are taken."""


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


class BlobForgotten(BlobError):
    """The bytes of this blob were deleted, since its time was over; the row tells what it was.

    Args:
        blob_id: The id that was asked for.
    """

    def __init__(self, blob_id: UUID) -> None:
        super().__init__(blob_id)
        self.blob_id = blob_id

    def __str__(self) -> str:
        return f"blob {self.args[0]} was forgotten: its bytes have been deleted"


class BlobUnavailable(BlobError):
    """The blob is kept where this process cannot read it; the message says what is needed."""


class KeyMissing(BlobUnavailable):
    """The blob was sealed with a key that this process does not have.

    Args:
        key_id: The id of the key.
    """

    def __init__(self, key_id: str) -> None:
        super().__init__(key_id)
        self.key_id = key_id

    def __str__(self) -> str:
        return f"the key ring of this process has no key {ascii(self.key_id)[:60]}"
