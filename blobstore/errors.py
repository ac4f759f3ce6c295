"""The errors about values, as a tree.

    BlobError
    ├── ValueRefused         the value could not come back as it was
    │   ├── ValueTooLarge    the value is larger than the cap
    │   └── NotAList         a map goes over the value, and it is no list
    ├── BlobMisuse           a call outside of trio, or `with` in place of `async with`
    ├── BlobDamaged          the stored bytes are not those that were written
    ├── NotSealed            the value is not encrypted, and only sealed values are accepted
    ├── BlobMissing          no blob has this id
    ├── BlobForgotten        its bytes were deleted, because its `keep_output` was over
    └── BlobUnavailable      the value is stored where this process cannot read it
        ├── KeyMissing       it was sealed with a key that this process does not have
        └── ObjectStoreError the object storage does not answer, or refuses the request

A retry does not help, except after a BlobUnavailable: there the operator can mend the cause. The
texts of these errors can be stored: they are bounded, without NUL and without lone surrogates.
"""

from uuid import UUID


class BlobError(Exception):
    """Any error that this package raises on purpose."""


class ValueRefused(BlobError):
    """The value could not come back as it was. The message names the place inside the value."""


class ValueTooLarge(ValueRefused):
    """The value is larger than the cap. The message names both sizes."""


class NotAList(ValueRefused):
    """A map goes over the value, and it is no list. The message names its type."""


class BlobMisuse(BlobError, RuntimeError, TypeError):
    """A method was called where trio does not run, or a stream was entered with ``with``.

    The message says what to do.
    """


class BlobDamaged(BlobError):
    """The stored bytes are not those that were written, or this release cannot read them.

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
    """This process accepts only sealed values, and this one is not encrypted.

    Or an earlier release sealed it in a form that does not name its run and step.
    """


class BlobMissing(BlobError):
    """No blob has this id: its run was deleted, or its insert was never committed.

    Args:
        blob_id: The id that was asked for.
    """

    def __init__(self, blob_id: UUID) -> None:
        super().__init__(blob_id)
        self.blob_id = blob_id

    def __str__(self) -> str:
        return f"blob {self.args[0]} is missing"


class BlobForgotten(BlobError):
    """The bytes of this blob were deleted, because its `keep_output` was over.

    Its row still says what it was.

    Args:
        blob_id: The id that was asked for.
    """

    def __init__(self, blob_id: UUID) -> None:
        super().__init__(blob_id)
        self.blob_id = blob_id

    def __str__(self) -> str:
        return f"blob {self.args[0]} was forgotten: its bytes have been deleted"


class BlobUnavailable(BlobError):
    """The blob is stored where this process cannot read it. The message says what is needed."""


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
