"""Outputs too large for a row: stored as blobs, named by their ids."""

from uuid import UUID

import pytest
from psycopg import errors

from ...parts.models.core import Outcome

PAGE = "x" * 10_000


def blob_of(core, run, step):
    return core.task(run, step).output_blob_id


def test_a_large_output_is_stored_as_a_blob_of_kind_json(core):
    core.flow("a")
    run = core.start()
    task = core.complete(run, "a", {"page": PAGE})
    assert (task.status, task.output) == ("completed", None)
    blob = core.row("select * from pgflow.output_blobs")
    assert (blob.id, blob.run_id, blob.kind, blob.codec) == (
        task.output_blob_id,
        run,
        "json",
        "none",
    )
    assert bytes(blob.content) == b'{"page": "%s"}' % PAGE.encode()
    assert blob.raw_size == len(blob.content)
    assert core.value("select sha256 = sha256(content) from pgflow.output_blobs")


@pytest.mark.parametrize(("length", "stored"), [(8190, False), (8191, True)])
def test_an_output_becomes_a_blob_beyond_its_threshold_in_bytes_of_json(core, length, stored):
    core.flow("a")
    run = core.start()
    assert (core.complete(run, "a", "x" * length).output_blob_id is not None) is stored


def test_the_threshold_counts_bytes_and_not_characters(core):
    core.flow("a")
    run = core.start()
    assert core.complete(run, "a", "é" * 5000).output_blob_id is not None


def test_a_flow_and_a_step_may_have_their_own_thresholds(core):
    core.flow("a", "b", "c")
    core.db.execute("update pgflow.flows set opt_blob_threshold = 100")
    core.db.execute("update pgflow.steps set opt_blob_threshold = 20000 where step_slug = 'b'")
    core.db.execute("update pgflow.steps set opt_blob_threshold = 0 where step_slug = 'c'")
    run = core.start()
    for step, output in (("a", "x" * 99), ("b", PAGE), ("c", 0)):
        core.complete(run, step, output)
    assert [blob_of(core, run, step) is None for step in "abc"] == [False, True, False]


def test_a_dependent_is_given_the_id_of_a_blob_and_the_value_of_the_rest(core):
    core.flow("a", "b", "c<a,b")
    run = core.start("in")
    core.complete(run, "a", PAGE)
    core.complete(run, "b", "small")
    (task,) = core.poll()
    assert task.input == {"run": "in", "b": "small"}
    assert task.blobs_refs == {"a": str(blob_of(core, run, "a"))}


def test_a_task_that_is_handed_over_is_given_the_ids_of_blobs_too(core):
    core.flow("a", "b<a")
    run = core.start("in")
    core.claim()
    blob = core.blob(run, "a")
    (task,) = core.settle(Outcome(run, "a", blob=blob), qty=1).tasks
    assert (task.input, task.blobs_refs) == ({"run": "in"}, {"a": str(blob)})


def test_a_runs_output_names_the_blobs_of_its_leaf_steps(core):
    core.flow("a", "b", "c<b")
    run = core.start()
    core.complete(run, "b", PAGE)
    core.complete(run, "a", PAGE)
    core.complete(run, "c", "small")
    ended = core.run(run)
    assert ended.output == {"c": "small"}
    assert ended.output_blobs_refs == {"a": str(blob_of(core, run, "a"))}


def test_a_run_whose_leaves_are_all_blobs_has_an_empty_output(core):
    core.flow("a")
    run = core.start()
    core.complete(run, "a", PAGE)
    assert core.run(run).output == {}
    assert list(core.run(run).output_blobs_refs) == ["a"]


def test_a_large_output_that_is_completed_twice_is_stored_once(core):
    core.flow("a")
    run = core.start()
    first = core.complete(run, "a", PAGE)
    core.complete(run, "a", PAGE + "!")
    assert core.blobs() == {first.output_blob_id}


def test_a_blob_goes_with_its_run(core):
    core.flow("a")
    gone, stays = core.start_many(2)
    for run in (gone, stays):
        core.complete(run, "a", PAGE)
    core.db.execute("delete from pgflow.runs where run_id = %s", [gone])
    assert core.blobs() == {blob_of(core, stays, "a")}


def test_the_content_of_a_blob_is_stored_outside_of_its_row_and_not_compressed(core):
    storage = "select attstorage from pg_attribute where attrelid = %s::regclass and attname = %s"
    assert core.value(storage, "pgflow.output_blobs", "content") == "e"


def test_a_blob_reads_as_the_json_it_was(core):
    core.flow("a")
    run = core.start()
    core.complete(run, "a", {"page": PAGE, "é": [1, None]})
    value = core.value("select pgflow.blob_json(%s)", blob_of(core, run, "a"))
    assert value == {"page": PAGE, "é": [1, None]}


@pytest.mark.parametrize(
    ("kind", "content", "value"),
    [
        ("json", b'[0, "\xc3\xa9"]', [0, "é"]),
        ("text", b'"\xc3\xa9\n', '"é\n'),
        ("bytes", b"\x00" * 90, "A" * 120),
    ],
)
def test_a_blob_reads_as_json_whatever_its_kind(core, kind, content, value):
    core.flow("a")
    blob = core.blob(core.start(), "a")
    core.db.execute("update pgflow.output_blobs set kind = %s, content = %s", [kind, content])
    assert core.value("select pgflow.blob_json(%s)", blob) == value


UNREADABLE = {
    "compressed by zstd": "codec = 'zstd'",
    "sealed": "key_id = 'k', data_key = 'x'",
    "stored by its elements": "kind = 'list', elements = array[null]::uuid[]",
    "stored in chunks": "codec = 'none', content = null, chunk_size = 10",
    "forgotten: its bytes are gone": "content = null, forgotten_at = now()",
}


@pytest.mark.parametrize(("obstacle", "change"), UNREADABLE.items(), ids=list(UNREADABLE))
def test_a_blob_that_sql_cannot_read_is_refused_with_the_reason(core, obstacle, change):
    core.flow("a")
    blob = core.blob(core.start(), "a")
    core.db.execute(f"update pgflow.output_blobs set {change}")
    with pytest.raises(errors.FeatureNotSupported, match=f"{blob} (is|was) {obstacle}"):
        core.value("select pgflow.blob_json(%s)", blob)


def test_a_blob_that_is_not_there_is_an_error(core):
    with pytest.raises(errors.NoDataFound, match="unknown blob"):
        core.value("select pgflow.blob_json(%s)", UUID(int=0xB10B))


def test_a_blobs_id_begins_as_its_runs_so_that_they_lie_side_by_side(core):
    core.flow("a")
    run = core.start(PAGE)
    core.complete(run, "a", PAGE)
    given = "select from pgflow.start_flows('f', array[to_jsonb(%s::text)], array[%s::uuid])"
    core.rows(given, PAGE, UUID(int=0))
    ids = core.blobs()
    assert sorted(blob.bytes[:8] == run.bytes[:8] for blob in ids) == [False, True, True]
    within = core.rows(
        "select id from pgflow.output_blobs"
        " where id between pgflow.first_blob_id(%s) and pgflow.last_blob_id(%s)",
        run,
        run,
    )
    assert {row.id for row in within} == {blob for blob in ids if blob.bytes[:8] == run.bytes[:8]}


def test_the_owner_of_a_blob_is_the_step_whose_output_it_is_or_the_run(core):
    core.flow("a")
    core.complete(core.start(PAGE), "a", PAGE)
    owners = core.rows("select step_slug, task_index from pgflow.output_blobs order by 1")
    assert owners == [("a", 0), ("run", 0)]


def test_people_see_in_a_view_what_is_stored(core):
    core.flow("a", "b")
    run = core.start()
    core.complete(run, "a", {"page": PAGE})
    core.claim()
    chunked = core.upload(run, "b")
    seen = {row.id: row for row in core.rows("select * from pgflow.blobs")}
    small = seen[blob_of(core, run, "a")]
    assert (small.flow_slug, small.run_id, small.step_slug) == ("f", run, "a")
    assert (small.kind, small.media_type) == ("json", "application/json")
    assert (small.raw_size, small.stored_size, small.chunks) == (10_012, 10_012, None)
    assert small.preview == '{"page": "' + 30 * "x"
    assert (seen[chunked].chunks, seen[chunked].preview) == (1, None)


def test_a_preview_is_cut_between_characters(core):
    core.flow("a")
    run = core.start()
    core.complete(run, "a", "é" * 5000)
    assert core.value("select preview from pgflow.output_blobs") == '"' + "é" * 39
