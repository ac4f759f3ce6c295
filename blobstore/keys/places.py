"""The place of a sealed value, which its seal proves.

The digest of a blob is sealed together with its place. The seal covers all columns of the row that
describe the bytes. So a value is refused if its row was changed, or if it was exchanged for another
value. Blobs that an earlier release sealed are bound to their ids only, until they are rotated.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from blobstore.errors import BlobDamaged, NotSealed
from blobstore.keys.seals import DIGEST, Seal
from blobstore.postgres.rows import OF_TASKS, BlobRow, Owner

VERSION = b"\x02"
DIGEST_BYTES = 32
SEALED_BEFORE = 24 + DIGEST_BYTES + 16  # the nonce, the digest and the tag
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMED = 7  # the version of an id that begins with a time


class Place(NamedTuple):
    """What a value is: the input of a run, the output of a step, or an element of one.

    Attributes:
        run_id: The run.
        step_slug: The step whose output the value is; ``run`` for the run's input.
        task_index: The task of the step.
        list_id: For an element of a list that is stored by its elements, the list. `ANY_LIST` for
            a reader that knows only the index: a task wrote one list.
        number: The index of the element, from 0.
    """

    run_id: UUID
    step_slug: str = "run"
    task_index: int = 0
    list_id: UUID | None = None
    number: int = 0

    @classmethod
    def of(cls, owner: Owner | BlobRow) -> "Place":
        """Return the place of a whole value."""
        return cls(owner.run_id, owner.step_slug, owner.task_index)

    def element(self, list_id: UUID, number: int) -> "Place":
        """Return the place of an element of the list at this place."""
        if self.task_index == OF_TASKS:
            return Place(self.run_id, self.step_slug, number)
        return self._replace(list_id=list_id, number=number)


ANY_LIST = UUID(int=(1 << 128) - 1)

# The place of a blob that an earlier release sealed, and that is bound to its id only.
UNBOUND = Place(UUID(int=0), "")


def seal_digest(row: BlobRow, seal: Seal, digest: bytes, place: Place | None = None) -> bytes:
    """Return the sealed digest, which the row holds; without a key, the digest itself.

    Args:
        row: The finished row of the blob.
        seal: The seal of the blob.
        digest: The SHA-256 of its bytes.
        place: The place of an element. The row holds the place of a whole value.
    """
    if not seal.closed:
        return digest
    element = b""
    if place and place.list_id:
        element = place.list_id.bytes + place.number.to_bytes(4)
    return VERSION + seal.seal(digest + element, bound(row))


def digested(row: BlobRow, seal: Seal, digest: bytes, place: Place | None = None) -> BlobRow:
    """Return the row with the digest of its bytes. For an element, `place` is its place."""
    return replace(row, sha256=seal_digest(row, seal, digest, place))


def open_digest(row: BlobRow, seal: Seal) -> tuple[bytes, Place | None]:
    """Return the digest of the bytes that were written, and the place of the value.

    The place is None if the value is not encrypted.

    Raises:
        BlobDamaged: The row was changed.
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
    """Whether a sealed digest has the form of earlier releases: it has another length."""
    return len(sealed) == SEALED_BEFORE


def bound(row: BlobRow) -> bytes:
    """Return the columns of a row that describe its bytes and its owner, as bytes."""
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
    """Check that a value is the one that a reader requests.

    Args:
        blob_id: The blob.
        found: The place that the seal names; None for an unencrypted blob, whose row is no proof.
        wanted: The place that the reader requests; None if the reader knows only the id.
        sealed_only: Refuse unencrypted values of runs whose ids have this time or a later one.

    Raises:
        BlobDamaged: The value has another place.
        NotSealed: `sealed_only` refuses the value: it is not encrypted, or bound to its id only.
    """
    is_bound = found is not None and found != UNBOUND
    if not is_bound and is_since(wanted.run_id if wanted else blob_id, sealed_only):
        what = (
            "not encrypted"
            if found is None
            else "sealed in an old form (run `pgflow-events blob rotate`)"
        )
        raise NotSealed(f"blob {blob_id} is {what}, and this process accepts only sealed values")
    if wanted and found and found.list_id and wanted.list_id == ANY_LIST:
        wanted = wanted._replace(list_id=found.list_id)
    if found is None or wanted is None or found == wanted:
        return
    if found == UNBOUND and blob_id.bytes[:8] == wanted.run_id.bytes[:8]:
        return
    raise BlobDamaged(blob_id, "it is the value of another run, step, task or element")


def is_since(some_id: UUID, since: datetime | None) -> bool:
    """Whether the id of a run or of a blob has this time or a later one.

    True for an id without a time.
    """
    if since is None:
        return False
    if some_id.version != TIMED:
        return True
    try:
        return EPOCH + timedelta(milliseconds=some_id.int >> 80) >= since
    except OverflowError:  # a year beyond the calendar
        return True
