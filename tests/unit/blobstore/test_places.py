"""Of each column of a blob it is known whether the seal covers it; of each run, when it began."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from blobstore import BlobDamaged, NotSealed
from blobstore.keys import KeyRing
from blobstore.keys.places import (
    ANY_LIST,
    UNBOUND,
    Place,
    admit,
    is_since,
    open_digest,
    seal_digest,
)
from blobstore.keys.seals import new_seal
from blobstore.postgres.ids import new_blob_id, new_id
from blobstore.postgres.rows import OF_TASKS, BlobRow

KEYS = KeyRing({"key": bytes(range(32))})
RUN = new_id()
MADE = datetime.now(UTC)
DIGEST = bytes(32)
ELEMENTS = [new_blob_id(RUN), None]
ROW = BlobRow(new_blob_id(RUN), RUN, "step", 0, "list", elements=ELEMENTS, raw_size=9)

# Another value of each column that tells what the bytes are, and whose.
COVERED: dict[str, list[Any]] = {
    "run_id": [new_id()],
    "step_slug": ["other", ""],
    "task_index": [1],
    "kind": ["json"],
    "media_type": ["text/html", ""],
    "codec": ["none"],
    "dictionary_id": [1],
    "chunk_size": [9],
    "raw_size": [8, None],
    "elements": [None, [], ELEMENTS[::-1], ELEMENTS[:1], [ELEMENTS[0]] * 2, [*ELEMENTS, None]],
}
# Sealed itself, or where it is, or how it looks.
APART = {
    "id", "key_id", "data_key", "content", "sha256", "store", "stored_size", "preview",
    "forgotten", "elements_size", "sizes", "misplaced",
}  # fmt: skip


def test_of_each_column_it_is_said_whether_the_seal_covers_it():
    assert {field.name for field in fields(BlobRow)} == COVERED.keys() | APART
    assert not COVERED.keys() & APART


@pytest.mark.parametrize("column", COVERED)
def test_a_digest_opens_only_with_the_row_that_it_was_sealed_with(column):
    seal, _, _ = new_seal(ROW.id, KEYS)
    sealed = replace(ROW, sha256=seal_digest(ROW, seal, DIGEST))
    assert open_digest(sealed, seal) == (DIGEST, Place.of(ROW))
    for value in COVERED[column]:
        with pytest.raises(BlobDamaged, match="its seal is broken"):
            open_digest(replace(sealed, **{column: value}), seal)


def test_the_place_of_an_element_is_in_its_seal():
    seal, _, _ = new_seal(ROW.id, KEYS)
    place = Place.of(ROW).element(new_blob_id(RUN), 70_000)
    sealed = replace(ROW, sha256=seal_digest(ROW, seal, DIGEST, place))
    assert open_digest(sealed, seal) == (DIGEST, place)


def test_a_reader_that_knows_only_the_index_of_an_element_takes_it_of_any_list_of_its_task():
    found = PLACE.element(new_blob_id(RUN), 7)
    admit(ROW.id, found, PLACE.element(ANY_LIST, 7), None)
    for wanted in (
        PLACE.element(ANY_LIST, 8),
        Place(RUN, "other").element(ANY_LIST, 7),
        Place(RUN, "step", 1).element(ANY_LIST, 7),
    ):
        with pytest.raises(BlobDamaged, match="another run, step, task or element"):
            admit(ROW.id, found, wanted, None)
    for whole in (PLACE, Place(RUN, "step", 7)):
        with pytest.raises(BlobDamaged, match="another run, step, task or element"):
            admit(ROW.id, whole, PLACE.element(ANY_LIST, 7), None)


def test_an_element_of_a_list_of_tasks_outputs_is_the_output_of_a_task():
    assert Place(RUN, "step", OF_TASKS).element(ROW.id, 3) == Place(RUN, "step", 3)


@pytest.mark.parametrize("stored", [b"", b"\x01", b"\x03" * 93, bytes(71), b"\x02"])
def test_a_digest_of_another_form_is_damage(stored):
    seal, _, _ = new_seal(ROW.id, KEYS)
    with pytest.raises(BlobDamaged):
        open_digest(replace(ROW, sha256=stored), seal)


PLACE = Place(RUN, "step")
OTHERS = [
    Place(new_id(), "step"),
    Place(RUN, "other"),
    Place(RUN, "step", 1),
    PLACE.element(ROW.id, 0),
]


@pytest.mark.parametrize("wanted", OTHERS)
def test_a_value_of_another_place_is_refused(wanted):
    admit(ROW.id, PLACE, PLACE, None)
    admit(ROW.id, PLACE, None, None)
    with pytest.raises(BlobDamaged, match="another run, step, task or element"):
        admit(ROW.id, PLACE, wanted, None)
    with pytest.raises(BlobDamaged, match="another run, step, task or element"):
        admit(ROW.id, wanted, PLACE, None)


@pytest.mark.parametrize("wanted", [PLACE, None], ids=["known", "by its id"])
@pytest.mark.parametrize("found", [None, UNBOUND], ids=["in clear", "sealed before"])
def test_what_is_not_bound_is_taken_of_older_runs_only(found, wanted):
    admit(ROW.id, found, wanted, None)
    admit(ROW.id, found, wanted, MADE + timedelta(minutes=1))
    with pytest.raises(NotSealed):
        admit(ROW.id, found, wanted, MADE - timedelta(minutes=1))


def test_a_run_whose_id_has_no_time_counts_as_later():
    ever = datetime.max.replace(tzinfo=UTC)
    assert is_since(uuid4(), ever)
    assert is_since(UUID(int=RUN.int | 0xFFFF_FFFF_FFFF << 80), ever)
    assert not is_since(RUN, ever)
