"""What a sealed value stands for, which its seal says and a row cannot change.

The digest of a blob is sealed together with its place, and bound to all of its row that tells
what its bytes are. So a value is refused where its row was changed, or where it was put in the
place of another. Blobs that were sealed before are bound to their ids only, until they are rotated.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from blobstore.errors import BlobDamaged, NotSealed
from blobstore.rows import BlobRow, Owner
from blobstore.seals import DIGEST, Seal

VERSION = b"\x02"
DIGEST_BYTES = 32
SEALED_BEFORE = 24 + DIGEST_BYTES + 16  # its nonce and its tag
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMED = 7  # the version of an id that begins with a time


class Place(NamedTuple):
    """What a value stands for.

    Attributes:
        run_id: The run.
        step_slug: The step whose output it is; ``run`` for the run's input.
        task_index: The task of the step.
        list_id: Of an element of a list that is kept by its elements, the list.
        number: Which of its elements, from 0 on.
    """

    run_id: UUID
    step_slug: str = "run"
    task_index: int = 0
    list_id: UUID | None = None
    number: int = 0

    @classmethod
    def of(cls, owner: Owner | BlobRow) -> "Place":
        """The place of a whole value."""
        return cls(owner.run_id, owner.step_slug, owner.task_index)

    def element(self, list_id: UUID, number: int) -> "Place":
        """The place of an element of the list that stands here."""
        return self._replace(list_id=list_id, number=number)


# Of a blob that was sealed by an earlier release, and is bound to its id alone.
UNBOUND = Place(UUID(int=0), "")


def seal_digest(row: BlobRow, seal: Seal, digest: bytes, place: Place | None = None) -> bytes:
    """What stands in the row for the digest of its bytes; in clear, the digest.

    Args:
        row: The blob, with all that is known at its end.
        seal: What seals its parts.
        digest: The SHA-256 of its bytes.
        place: That of an element; that of a whole value is in the row.
    """
    if not seal.closed:
        return digest
    element = b""
    if place and place.list_id:
        element = place.list_id.bytes + place.number.to_bytes(4)
    return VERSION + seal.seal(digest + element, bound(row))


def open_digest(row: BlobRow, seal: Seal) -> tuple[bytes, Place | None]:
    """The digest of what was written, and its place; None for what is in clear.

    Raises:
        BlobDamaged: The row is not as it was written.
    """
    stored = row.sha256 or b""
    if not seal.closed:
        return stored, None
    if not is_unbound(stored) and not stored.startswith(VERSION):
        raise BlobDamaged(
            row.id, "its seal has an unknown form: was it written by a newer release?"
        )
    try:
        if is_unbound(stored):
            return seal.open(stored, DIGEST), UNBOUND
        plain = seal.open(stored[len(VERSION) :], bound(row))
    except ValueError as error:
        raise BlobDamaged(row.id, f"its digest: {error}") from error
    digest, element = plain[:DIGEST_BYTES], plain[DIGEST_BYTES:]
    place = Place.of(row)
    if element:
        place = place.element(UUID(bytes=element[:16]), int.from_bytes(element[16:]))
    return digest, place


def is_unbound(sealed: bytes) -> bool:
    """Whether a sealed digest is of the form before, which had a length of its own."""
    return len(sealed) == SEALED_BEFORE


def bound(row: BlobRow) -> bytes:
    """All of a row that tells what its bytes are, and whose."""
    elements = row.elements
    facts = (
        row.run_id.hex, row.step_slug, row.task_index, row.kind, row.media_type, row.codec,
        row.dictionary_id, row.chunk_size, row.raw_size,
        None if elements is None else len(elements),
    )  # fmt: skip
    listed = b"".join(element.bytes if element else bytes(16) for element in elements or ())
    return b"row" + json.dumps(facts).encode() + listed


def admit(
    blob_id: UUID, found: Place | None, wanted: Place | None, sealed_only: datetime | None
) -> None:
    """See that a value is the one that a reader asks for.

    Args:
        blob_id: The blob.
        found: Its place, as its seal says; None for a blob in clear, whose row says anything.
        wanted: What it is to stand for; None if the reader knows its id alone.
        sealed_only: From when on no run has values in clear.

    Raises:
        BlobDamaged: It is another.
        NotSealed: It is in clear, or bound to its id alone, and must not be.
    """
    is_bound = found is not None and found != UNBOUND
    if not is_bound and is_since(wanted.run_id if wanted else blob_id, sealed_only):
        what = "not encrypted" if found is None else "sealed in an old form (run `blob rotate`)"
        raise NotSealed(f"blob {blob_id} is {what}, and this process accepts only sealed values")
    if found is None or wanted is None or found == wanted:
        return
    if found == UNBOUND and blob_id.bytes[:8] == wanted.run_id.bytes[:8]:
        return
    raise BlobDamaged(blob_id, "it is the value of another run, step, task or element")


def is_since(some_id: UUID, since: datetime | None) -> bool:
    """Whether a run, or the run of a blob, has begun at that time or later, as its id says.

    So it is taken to have where an id has no time.
    """
    if since is None:
        return False
    if some_id.version != TIMED:
        return True
    try:
        return EPOCH + timedelta(milliseconds=some_id.int >> 80) >= since
    except OverflowError:  # a year that no calendar has
        return True
