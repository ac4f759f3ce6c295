"""Blobs in chunks: begun, written and ended by an attempt, and gone with one that did not end."""

from uuid import UUID

import pytest
from psycopg import errors

from blobstore.postgres.ids import new_blob_id

from ...parts.models.core import Core, Outcome

NOBODY = UUID(int=0)


def claimed(core: Core, *steps: str, **options: int) -> UUID:
    """A run whose first steps are in their first attempt."""
    core.flow(*(steps or ("a", "b<a")), base_delay=0, **options)
    run = core.start()
    core.claim()
    return run


def superseded(core: Core) -> UUID:
    """A run whose step "a" is in its second attempt, while the first still runs somewhere."""
    run = claimed(core)
    core.lapse()
    core.claim()
    return run


def test_an_upload_that_is_finished_becomes_the_output_of_its_task(core):
    run = claimed(core)
    blob = core.upload(run, "a")
    claim = core.settle(Outcome(run, "a", blob=blob), qty=1)
    assert claim.tasks[0].blobs_refs == {"a": str(blob)}
    assert core.chunks() == [(blob, 0), (blob, 1)]


def test_until_it_is_finished_its_digest_is_null(core):
    run = claimed(core)
    blob = core.open(run, "a")
    core.write(blob, 0)
    read = "select sha256 is null as no_digest, raw_size, stored_size from pgflow.output_blobs"
    assert core.row(read) == (True, None, None)
    core.finish(blob, 1, size=77)
    assert core.row(read) == (False, 77, 77)


def test_each_call_made_twice_is_made_once(core):
    run = claimed(core)
    blob = new_blob_id(run)
    for _ in range(2):
        assert core.value(
            "select pgflow.open_blob("
            "%s, %s, 'a', 0, 1, 'text', null, 'zstd', null, null, null, 100)",
            blob,
            run,
        )
    for content in (b"first", b"second"):
        assert core.write(blob, 0, content)
    for _ in range(2):
        core.finish(blob, 1)
    assert core.blobs() == {blob}
    assert core.value("select content from pgflow.blob_chunks") == b"first"


@pytest.mark.parametrize("written", [(), (0,), (0, 2)])
def test_an_upload_without_all_of_its_chunks_cannot_be_finished(core, written):
    run = claimed(core)
    blob = core.open(run, "a")
    for seq in written:
        core.write(blob, seq)
    with pytest.raises(errors.DataException, match=f"blob {blob} was not stored completely"):
        core.finish(blob, 3)


def test_chunks_that_are_kept_elsewhere_are_not_counted(core):
    run = claimed(core)
    blob = core.open(run, "a")
    core.db.execute("update pgflow.output_blobs set store = 's3'")
    core.finish(blob, 3)


def test_what_was_never_opened_can_be_neither_written_nor_finished(core):
    assert not core.write(NOBODY, 0)
    with pytest.raises(errors.DataException, match="not stored completely"):
        core.finish(NOBODY, 0)


# What may not begin


def test_an_attempt_that_was_superseded_cannot_begin_an_upload(core):
    run = superseded(core)
    assert core.open(run, "a", attempt=1) is None
    assert core.open(run, "a", attempt=2)


def test_a_task_that_is_settled_takes_no_upload(core):
    run = claimed(core)
    core.settle(Outcome(run, "a"))
    assert core.open(run, "a") is None


def test_a_task_whose_run_has_failed_takes_no_upload(core):
    run = claimed(core, "a", "b")
    core.settle(Outcome(run, "a", error="boom", permanent=True))
    assert core.open(run, "b") is None


def test_a_run_that_was_deleted_takes_no_upload(core):
    run = claimed(core)
    core.db.execute("delete from pgflow.runs")
    assert core.open(run, "a") is None
    assert core.blobs() == set()


def test_whoever_names_no_attempt_may_upload_while_the_task_is_to_do(core):
    run = claimed(core)
    assert core.open(run, "a", attempt=None)
    core.settle(Outcome(run, "a"))
    assert core.open(run, "a", attempt=None) is None


def test_an_input_is_uploaded_before_its_run_is_there(core):
    core.flow("a")
    blob = core.open(NOBODY, "run", None)
    core.write(blob, 0)
    core.finish(blob, 1, size=77)
    core.rows("select from pgflow.start_flows('f', %s, %s, %s)", [None], [NOBODY], [blob])
    assert core.run(NOBODY).has_blobs
    assert core.task(NOBODY, "a").input_bytes == 77


# What goes with its attempt


@pytest.mark.parametrize("end", ["failed, to be tried again", "failed for good", "lapsed"])
def test_what_an_attempt_had_begun_goes_when_it_fails(core, end):
    run = claimed(core, "a", max_attempts=1 if end == "lapsed" else 3)
    core.write(core.open(run, "a"), 0)
    if end == "lapsed":
        core.lapse()
        core.claim()
    else:
        core.settle(Outcome(run, "a", error="boom", permanent=end.endswith("good")))
    assert (core.blobs(), core.chunks()) == (set(), [])


def test_what_a_lost_attempt_had_begun_goes_when_a_later_one_completes(core):
    run = superseded(core)
    zombie = core.open(run, "a", attempt=None)
    core.write(zombie, 0)
    blob = core.upload(run, "a", attempt=2)
    core.settle(Outcome(run, "a", attempt=2, blob=blob))
    assert core.blobs() == {blob}
    assert core.chunks() == [(blob, 0), (blob, 1)]
    assert not core.write(zombie, 1)
    with pytest.raises(errors.DataException, match="not stored completely"):
        core.finish(zombie, 2)


def test_an_upload_that_a_lost_attempt_finished_first_is_refused_and_goes(core):
    run = superseded(core)
    zombie = core.open(run, "a", attempt=2)
    core.write(zombie, 0)
    core.finish(zombie, 1)
    assert core.settle(Outcome(run, "a", attempt=1, blob=zombie)).refused == [1]
    assert (core.blobs(), core.chunks()) == (set(), [])
    assert core.task(run, "a").status == "queued"


def test_what_the_other_tasks_of_a_failed_run_had_begun_goes_too(core):
    run = claimed(core, "a", "b")
    for step in "ab":
        core.write(core.open(run, step), 0)
    core.settle(Outcome(run, "a", error="boom", permanent=True))
    assert (core.blobs(), core.chunks()) == (set(), [])


def test_what_other_attempts_and_other_runs_have_begun_stays(core):
    run = claimed(core, "a", "b")
    other = core.start()
    core.claim()
    begun = {core.open(run, "b"), core.open(other, "a")}
    core.settle(Outcome(run, "a", error="boom"))
    core.claim()
    core.settle(Outcome(run, "a", attempt=2))
    assert core.blobs() == begun


def test_what_is_finished_stays_when_a_later_step_fails(core):
    run = claimed(core)
    blob = core.upload(run, "a")
    core.settle(Outcome(run, "a", blob=blob), qty=1)
    core.settle(Outcome(run, "b", error="boom", permanent=True))
    assert core.blobs() == {blob}
    assert len(core.chunks()) == 2


# What a refused completion takes along


def test_a_refused_completion_takes_its_chunks_and_elements_along(core):
    run = superseded(core)
    elements = [core.blob(run, "a"), None, core.blob(run, "a")]
    parts = core.blob(run, "a", elements=elements)
    chunked = core.upload(run, "a", attempt=2)
    refused = [Outcome(run, "a", attempt=1, blob=blob) for blob in (parts, chunked)]
    assert core.settle(*refused).refused == [1, 2]
    assert (core.blobs(), core.chunks()) == (set(), [])


def test_a_list_that_is_accepted_keeps_its_elements(core):
    run = claimed(core)
    elements = [core.blob(run, "a"), core.blob(run, "a")]
    blob = core.blob(run, "a", elements=elements)
    for _ in range(2):  # the answer to the first was lost
        assert not core.settle(Outcome(run, "a", blob=blob)).refused
    assert core.blobs() == {blob, *elements}


def test_a_refused_completion_leaves_what_it_only_passed_on(core):
    core.flow("a", "b<a", base_delay=0)
    given = core.blob(NOBODY, "run")
    core.rows("select from pgflow.start_flows('f', %s, %s, %s)", [None], [NOBODY], [given])
    core.claim()
    output = core.upload(NOBODY, "a")
    core.settle(Outcome(NOBODY, "a", blob=output), qty=1)
    core.lapse()
    core.claim()
    late = [Outcome(NOBODY, "b", attempt=1, blob=blob) for blob in (given, output)]
    assert core.settle(*late).refused == [1, 2]
    assert core.blobs() == {given, output}
    assert core.chunks() == [(output, 0), (output, 1)]


def test_a_refused_completion_leaves_what_other_runs_have(core):
    core.flow("a", base_delay=0)
    one, two = core.start_many(2)
    core.claim()
    unnamed = core.blob(two, "a")
    assert core.settle(Outcome(one, "a", attempt=9, blob=unnamed)).refused == [1]
    assert core.blobs() == {unnamed}


# What goes with its run


@pytest.mark.parametrize("run_id", [None, UUID(int=5), UUID(int=2**128 - 1)], ids=str)
def test_all_that_a_run_has_goes_with_it_in_whichever_partition(core, run_id):
    core.flow("a", "b", "c")
    (run,) = core.rows("select * from pgflow.start_flows('f', array['1'::jsonb], %s)", [run_id])
    stays = core.start()
    core.claim()
    for owner in (run.run_id, stays):
        chunked = core.upload(owner, "a")
        listed = core.blob(owner, "b", elements=[core.blob(owner, "b")])
        core.settle(Outcome(owner, "a", blob=chunked), Outcome(owner, "b", blob=listed))
        core.write(core.open(owner, "c"), 0)
    assert (len(core.blobs()), len(core.chunks())) == (8, 6)
    core.db.execute("delete from pgflow.runs where run_id = %s", [run.run_id])
    assert {row[0] for row in core.rows("select run_id from pgflow.output_blobs")} == {stays}
    assert (len(core.blobs()), len(core.chunks())) == (4, 3)


def test_many_runs_are_deleted_at_once_with_and_without_blobs(core):
    core.flow("a", "b<a")
    runs = core.start_many(30)
    core.claim(30)
    large = [Outcome(run, "a", blob=core.upload(run, "a")) for run in runs[::2]]
    core.settle(*large, *[Outcome(run, "a", output=1) for run in runs[1::2]])
    assert (len(core.blobs()), len(core.chunks())) == (15, 30)
    core.db.execute("delete from pgflow.runs")
    assert (core.blobs(), core.chunks()) == (set(), [])


def test_a_run_that_has_no_blobs_is_deleted_without_a_look_at_any(core):
    core.flow("a", "b<a")
    small, large = core.start_many(2)
    core.complete(small, "a", 1)
    core.complete(large, "a", "x" * 10_000)
    assert (core.run(small).has_blobs, core.run(large).has_blobs) == (False, True)


def test_a_task_whose_step_has_more_tasks_notes_that_its_run_has_blobs(core):
    run = claimed(core)
    core.db.execute("update pgflow.step_states set remaining_tasks = 2 where step_slug = 'a'")
    core.settle(Outcome(run, "a", blob=core.blob(run, "a")))
    assert core.run(run).has_blobs
    assert core.run(run).remaining_steps == 2


def test_the_chunks_of_a_blob_go_with_it(core):
    run = claimed(core)
    blob, other = core.upload(run, "a"), core.open(run, "a")
    core.write(other, 0)
    core.db.execute("delete from pgflow.output_blobs where id = %s", [blob])
    assert core.chunks() == [(other, 0)]


# Nulls


@pytest.mark.parametrize("missing", range(12))
def test_a_null_in_the_place_of_any_argument_of_open_blob_stores_nothing_unnamed(core, missing):
    run = claimed(core)
    values = [new_blob_id(run), run, "a", 0, 1, "bytes", "x/y", "zstd", "k", b"k", "s3", 100]
    values[missing] = None
    call = f"select pgflow.open_blob({', '.join(['%s'] * 12)})"
    optional = {4, 6, 8, 9, 10, 11}
    if missing in optional:
        assert core.value(call, *values) is True
    else:
        try:
            assert core.value(call, *values) is False
        except errors.NotNullViolation:
            return
        assert core.blobs() == set()


@pytest.mark.parametrize(
    "call",
    [
        "write_chunk(null, 0, 'x')",
        "input_bytes(null, null, null, null)",
        "delete_blobs(null)",
        "discard_unfinished(null)",
        "ensure_blob_days(null)",
        "first_id(null)",
        "first_blob_id(null)",
        "last_blob_id(null)",
        "new_blob_id(null)",
        "blob_partition(null, null)",
        "dead_messages(null, null)",
        "next_bytes('f')",
        "take_tasks('{f}', null, null, null)",
        "within_bytes(null, null, null, null, null)",
        "claim_tasks('{f}', null, null, null)",
    ],
)
def test_nulls_for_all_are_answered_and_change_nothing(core, call):
    core.flow("a")
    core.start()
    before = core.rows("select * from pgflow.step_tasks")
    core.rows(f"select pgflow.{call}")
    assert core.rows("select * from pgflow.step_tasks") == before
    assert core.blobs() == set()


@pytest.mark.parametrize("arguments", ["%s, null, 'x'", "%s, 0, null"])
def test_a_chunk_without_a_number_or_content_is_refused(core, arguments):
    blob = core.open(claimed(core), "a")
    with pytest.raises(errors.NotNullViolation):
        core.rows(f"select pgflow.write_chunk({arguments})", blob)


@pytest.mark.parametrize("arguments", ["null, 1, 1, 'x'", "1, null, 1, 'x'", "1, 1, 1, null"])
def test_a_blob_is_not_finished_while_anything_of_it_is_unknown(core, arguments):
    blob = core.open(claimed(core), "a")
    core.write(blob, 0)
    with pytest.raises(errors.DataException, match="not stored completely"):
        core.rows(f"select pgflow.finish_blob(%s, {arguments}, null)", blob)
