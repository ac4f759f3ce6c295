"""complete_task() and fail_task() as pgflow's workers call them."""

from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb

from ...parts.models.core import Outcome

REGISTER = """
insert into pgflow.workers (worker_id, queue_name, function_name)
values (gen_random_uuid(), %s, 'tests') returning 1
"""
READ = "select array_agg(msg_id) from pgmq.read('f', 2, 100)"
START = "select * from pgflow.start_tasks('f', %s, gen_random_uuid())"
COMPLETE = "select * from pgflow.complete_task(%s, %s, %s, %s)"
FAIL = "select * from pgflow.fail_task(%s, %s, %s, 'boom')"
STATES = "select to_jsonb(s) from pgflow.step_states s order by step_slug"


def start(core):
    return core.rows(START, core.value(READ))


def add(core, slug, *deps, **options):
    names = "".join(f", {name} => %s" for name in options)
    core.rows(f"select pgflow.add_step('f', %s, %s{names})", slug, list(deps), *options.values())


def state(core, run, step):
    query = "select * from pgflow.step_states where run_id = %s and step_slug = %s"
    return core.row(query, run, step)


def everything(core):
    """All rows that a call could change."""
    return [
        core.rows(f"select to_jsonb(t) from {table} t order by 1")
        for table in ("pgflow.runs", "pgflow.step_states", "pgflow.step_tasks", "pgmq.q_f")
    ]


@pytest.mark.parametrize("output", [1, None, [], "text", {"x": None}])
def test_the_output_of_a_step_is_in_its_state(core, output):
    core.flow("a", "b<a")
    run = core.start()
    core.complete(run, "a", output)
    assert state(core, run, "a").output == output
    kinds = "select jsonb_typeof(s.output) = jsonb_typeof(%s) from pgflow.step_states s"
    assert core.value(kinds + " where step_slug = 'a'", Jsonb(output))


def test_an_output_of_the_sql_null_or_in_a_blob_is_not_in_the_state(core):
    core.flow("a", "b")
    core.db.execute("update pgflow.flows set opt_blob_threshold = 10")
    run = core.start()
    core.rows("select pgflow.complete_task(%s, 'a', 0, null)", run)
    core.complete(run, "b", "x" * 100)
    assert [state(core, run, step).output for step in ("a", "b")] == [None, None]
    assert core.task(run, "b").output_blob_id is not None


def test_what_a_worker_of_ours_completes_is_in_its_task_alone(core):
    core.flow("a", "b")
    run = core.start()
    core.settle(Outcome(run, "a", attempt=None, output=1))
    assert state(core, run, "a").output is None
    core.complete(run, "a", 2)
    assert state(core, run, "a").output is None


def test_a_map_has_the_outputs_of_its_tasks_in_their_order(core):
    core.flow()
    add(core, "each", step_type="map")
    run = core.start(["a", "b", "c"])
    for index, output in ((2, "C"), (0, None), (1, "B")):
        value = Jsonb(output) if output else None
        assert core.row(COMPLETE, run, "each", index, value).status == "completed"
    assert state(core, run, "each").output == [None, "B", "C"]
    assert core.run(run).output == {"each": [None, "B", "C"]}


def test_the_message_of_a_task_is_archived_with_its_completion(core):
    core.flow()
    add(core, "each", step_type="map")
    run = core.start([1, 2])
    first, second = core.queued()
    core.rows(COMPLETE, run, "each", 1, Jsonb(1))
    assert (core.queued(), core.archived()) == ([first], [second])


@pytest.mark.parametrize("queue", ["f", "F"])
def test_where_a_worker_of_pgflow_serves_the_queue_only_what_was_claimed_is_settled(core, queue):
    core.flow("a", max_attempts=1)
    run = core.start()
    core.rows(REGISTER, queue)
    before = everything(core)
    assert core.complete(run, "a", 1).status == "queued"
    assert core.fail(run, "a").status == "queued"
    assert everything(core) == before
    start(core)
    assert core.complete(run, "a", 1).status == "completed"


def test_a_claim_by_polling_may_be_completed_there_too(core):
    core.flow("a")
    run = core.start()
    core.rows(REGISTER, "f")
    core.poll()
    assert core.complete(run, "a", 1).status == "completed"


def test_a_worker_of_another_queue_does_not_matter(core):
    core.flow("a")
    core.rows(REGISTER, "g")
    assert core.complete(core.start(), "a", 1).status == "completed"


def test_each_call_may_be_repeated(core):
    core.flow("a", "b<a")
    add(core, "each", "a", step_type="map")
    run = core.start()
    calls = [
        (COMPLETE, run, "a", 0, Jsonb([1, 2])),
        (COMPLETE, run, "each", 1, Jsonb(1)),
        (COMPLETE, run, "each", 0, Jsonb(1)),
        (COMPLETE, run, "b", 0, Jsonb("end")),
    ]
    for call in calls:
        first = core.row(*call)
        after = everything(core)
        assert core.row(*call) == first
        assert core.row(FAIL, *call[1:4]) == first
        assert everything(core) == after
    assert core.run(run).status == "completed"
    assert core.queued() == []


@pytest.mark.parametrize("call", [COMPLETE, FAIL])
@pytest.mark.parametrize(
    "ended",
    [
        "update pgflow.runs set status = 'failed', failed_at = clock_timestamp()",
        "update pgflow.step_states set status = 'completed'",
        "update pgflow.step_states set status = 'failed'",
        "update pgflow.step_states set status = 'skipped', skip_reason = 'condition_unmet'",
    ],
)
def test_a_late_call_archives_the_message_and_changes_nothing_else(core, call, ended):
    core.flow("a", "b")
    run = core.start()
    start(core)
    core.db.execute(ended)
    *before, _ = everything(core)
    a, b = core.queued()
    args = (run, "a", 0) if call == FAIL else (run, "a", 0, Jsonb("x" * 9000))
    assert core.row(call, *args) == core.task(run, "a")
    assert everything(core)[:3] == before
    assert (core.queued(), core.archived()) == ([b], [a])
    assert core.blobs() == set()


TYPES = [({}, "object"), ("text", "string"), (1, "number"), (True, "boolean"), (None, "null")]


@pytest.mark.parametrize(("output", "kind"), [*TYPES, ("sql", "null")])
def test_a_map_needs_a_list_or_the_run_fails(core, output, kind):
    core.flow("a", "b", "end<b", max_attempts=3)
    add(core, "each", "a", step_type="map", when_exhausted="skip")
    run = core.start()
    start(core)
    value = None if output == "sql" else Jsonb(output)
    task = core.row(COMPLETE, run, "a", 0, value)
    assert (task.status, task.output) == ("failed", None if output == "sql" else output)
    assert task.error_message == f"[TYPE_VIOLATION] Produced {kind} instead of array"
    assert task.failed_at is not None
    step = state(core, run, "a")
    assert (step.status, step.output, bool(step.failed_at)) == ("failed", None, True)
    assert step.error_message == (
        f"[TYPE_VIOLATION] Map step each expects array input but dependency a produced {kind}"
    )
    ended = core.run(run)
    assert (ended.status, bool(ended.failed_at), ended.output) == ("failed", True, None)
    assert core.states(run) == {
        "a": "failed",
        "b": "cancelled",
        "end": "created",
        "each": "created",
    }
    assert (core.queued(), len(core.archived())) == ([], 2)
    after = everything(core)
    assert core.row(COMPLETE, run, "a", 0, Jsonb([])) == task
    assert everything(core) == after


def test_a_wrong_type_that_is_long_is_kept_as_a_blob(core):
    core.flow("a")
    add(core, "each", "a", step_type="map")
    run = core.start()
    task = core.complete(run, "a", "x" * 9000)
    assert (task.status, task.output) == ("failed", None)
    assert core.value("select pgflow.blob_json(%s)", task.output_blob_id) == "x" * 9000
    assert core.run(run).has_blobs


def test_a_long_list_may_feed_a_map(core):
    core.flow("a")
    add(core, "each", "a", step_type="map")
    run = core.start()
    assert core.complete(run, "a", ["x" * 9000, 1]).status == "completed"
    assert [task.input for task in start(core) if task.step_slug == "each"] == ["x" * 9000, 1]


def test_only_a_map_needs_a_list(core):
    core.flow("a", "b<a")
    add(core, "each", step_type="map")
    add(core, "again", "each", step_type="map")
    run = core.start([1])
    assert core.complete(run, "a", 1).status == "completed"
    assert core.row(COMPLETE, run, "each", 0, Jsonb("no list")).status == "completed"
    assert core.states(run)["again"] == "started"


def test_a_wrong_type_counts_only_where_the_task_is_claimed(core):
    core.flow("a")
    add(core, "each", "a", step_type="map")
    run = core.start()
    core.rows(REGISTER, "f")
    assert core.complete(run, "a", 1).status == "queued"
    assert core.run(run).status == "started"


def test_a_failure_for_good_archives_every_message_of_the_run(core):
    core.flow("a", max_attempts=1)
    add(core, "each", step_type="map")
    other = core.start([1])
    run = core.start([1, 2])
    start(core)
    assert core.row(FAIL, run, "each", 1).status == "failed"
    step = state(core, run, "each")
    assert (step.status, step.error_message) == ("failed", "boom")
    left = "select message ->> 'run_id' from pgmq.q_f"
    assert {row[0] for row in core.rows(left)} == {str(other)}


@pytest.mark.parametrize("when", ["skip", "skip-cascade"])
def test_an_exhausted_step_is_skipped_once(core, when):
    core.flow(max_attempts=1)
    add(core, "each", step_type="map", when_exhausted=when)
    add(core, "below", "each", step_type="map")
    add(core, "end", "below")
    run = core.start([1, 2])
    start(core)
    assert core.row(FAIL, run, "each", 0).status == "failed"
    step = state(core, run, "each")
    assert (step.status, step.skip_reason, step.error_message, step.remaining_tasks) == (
        "skipped",
        "handler_failed",
        "boom",
        None,
    )
    reasons = {name: state(core, run, name).skip_reason for name in ("below", "end")}
    left = core.run(run)
    if when == "skip":
        assert reasons == {"below": None, "end": None}
        assert (state(core, run, "below").output, left.remaining_steps) == ([], 1)
    else:
        assert reasons == {"below": "dependency_skipped", "end": "dependency_skipped"}
        assert (left.status, left.output, left.remaining_steps) == ("completed", None, 0)
    after = everything(core)
    core.row(FAIL, run, "each", 1)
    core.row(FAIL, run, "each", 0)
    assert everything(core) == after


def test_the_message_of_a_task_is_archived_once(core):
    core.flow("a")
    run = core.start()
    (message,) = core.queued()
    archive = "select pgflow._archive_task_message(%s, 'a', %s)"
    for args in ((run, 1), (uuid4(), 0), (run, 0), (run, 0)):
        core.rows(archive, *args)
    assert (core.queued(), core.archived()) == ([], [message])
    core.db.execute("update pgflow.step_tasks set message_id = null")
    core.rows(archive, run, 0)
