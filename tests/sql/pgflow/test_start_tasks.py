"""start_tasks(): the second phase of a claim of pgflow's workers, and requeue_stalled_tasks()."""

from uuid import UUID

import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from ...parts.models.core import Outcome

WORKER = UUID(int=0xC)
START = "select * from pgflow.start_tasks(%s, %s, %s) order by msg_id"
COMPRESSED = "update pgflow.output_blobs set codec = 'zstd' where task_index = %s"
STALE = "update pgflow.step_tasks set started_at = clock_timestamp() - make_interval(secs => %s)"


@pytest.fixture
def worker(core):
    core.rows(
        "insert into pgflow.workers (worker_id, queue_name, function_name)"
        " values (%s, 'f', 'tests') returning 1",
        WORKER,
    )
    return WORKER


def read(core, slug="f", qty=100):
    """The first phase: read messages."""
    found = core.rows("select msg_id from pgmq.read(%s, 2, %s)", slug, qty)
    return [row.msg_id for row in found]


def start(core, ids=None, slug="f"):
    return core.rows(START, slug, read(core, slug) if ids is None else ids, WORKER)


def add(core, slug, *deps, **options):
    names = "".join(f", {name} => %s" for name in options)
    core.rows(f"select pgflow.add_step('f', %s, %s{names})", slug, list(deps), *options.values())


def finish(core, run, step, index, output):
    core.rows("select pgflow.complete_task(%s, %s, %s, %s)", run, step, index, Jsonb(output))


def state(core, run, step):
    query = "select * from pgflow.step_states where run_id = %s and step_slug = %s"
    return core.row(query, run, step)


def test_a_task_is_started_and_its_message_is_hidden_for_the_timeout_and_two_seconds(core, worker):
    core.flow(timeout=60)
    core.step("a", timeout=20)
    core.step("b")
    run = core.start({"x": 1})
    a, b = start(core)
    assert [(t.flow_slug, t.run_id, t.step_slug, t.task_index) for t in (a, b)] == [
        ("f", run, "a", 0),
        ("f", run, "b", 0),
    ]
    assert (a.attempts_count, a.timeout, b.timeout) == (1, 20, 60)
    task = core.task(run, "a")
    assert (task.status, task.attempts_count, task.message_id) == ("started", 1, a.msg_id)
    assert (task.worker_id, task.last_worker_id) == (None, worker)
    assert task.started_at >= task.queued_at
    assert core.hidden_for(a.msg_id) == pytest.approx(22, abs=0.5)
    assert core.hidden_for(b.msg_id) == pytest.approx(62, abs=0.5)


def test_a_task_is_started_once(core, worker):
    core.flow("a")
    run = core.start()
    ids = read(core)
    assert len(start(core, ids)) == 1
    assert start(core, ids) == []
    assert core.task(run, "a").attempts_count == 1


@pytest.mark.parametrize("ids", [None, [], [99]])
def test_without_messages_of_tasks_nothing_is_started(core, ids):
    core.flow("a")
    core.start()
    assert core.rows(START, "f", ids, WORKER) == []
    assert core.rows(START, "nowhere", core.queued(), WORKER) == []


def test_messages_of_other_flows_and_of_ended_tasks_are_passed_over(core):
    core.flow("a", slug="other")
    core.flow("a", "b")
    core.start(slug="other")
    run = core.start()
    a, b = core.queued()
    core.complete(run, "a", 1)
    assert [task.step_slug for task in start(core, [a, b])] == ["b"]
    assert core.rows("select status from pgflow.step_tasks where flow_slug = 'other'") == [
        ("queued",)
    ]


@pytest.mark.parametrize(
    "ended",
    [
        "update pgflow.runs set status = 'failed'",
        "update pgflow.step_states set status = 'completed'",
        "update pgflow.step_states set status = 'skipped'",
    ],
)
def test_tasks_of_what_does_not_go_on_are_passed_over(core, ended):
    core.flow("a")
    run = core.start()
    core.db.execute(ended)
    assert start(core) == []
    assert core.task(run, "a").status == "queued"


def test_tasks_that_another_session_holds_are_passed_over(core, connect_beside):
    """Nobody waits, so that nobody can wait for each other."""
    other = connect_beside()
    other.execute("select pgflow.create_flow('g')")
    try:
        other.execute("select pgflow.add_step('g', 'a')")
        other.execute("select pgflow.start_flow('g', '1')")
        core.rows("select from pgflow.step_tasks where flow_slug = 'g' for update")
        other.execute("set lock_timeout = '1ms'")
        assert other.execute(START, ["g", [1], WORKER]).fetchall() == []
        core.db.rollback()
        assert len(other.execute(START, ["g", [1], WORKER]).fetchall()) == 1
    finally:
        core.db.rollback()
        other.execute("select pgflow.delete_flow_and_data('g')")


def test_a_root_step_gets_the_input_of_its_run_apart(core):
    core.flow("a")
    core.start([1, None])
    (task,) = start(core)
    assert (task.input, task.flow_input, task.blobs_refs) == ({}, [1, None], {})


def test_a_step_gets_the_outputs_of_its_dependencies_and_no_input_of_the_run(core):
    core.flow("a", "b", "c<a,b")
    run = core.start({"x": 1})
    core.complete(run, "a", "A")
    core.rows("select pgflow.complete_task(%s, 'b', 0, null)", run)
    (task,) = start(core)
    assert (task.step_slug, task.input, task.flow_input) == ("c", {"a": "A", "b": None}, None)


def test_dependencies_that_were_skipped_are_absent(core):
    core.flow("a")
    add(core, "never", "a", required_input_pattern=Jsonb({"a": 1}))
    add(core, "end", "a", "never")
    run = core.start()
    core.complete(run, "a", 2)
    (task,) = start(core)
    assert (task.step_slug, task.input) == ("end", {"a": 2})


def test_a_task_of_a_map_gets_its_bare_element(core):
    core.flow()
    add(core, "root", step_type="map")
    add(core, "each", "root", step_type="map")
    add(core, "end", "each")
    run = core.start([1, None, {"x": [2]}])
    roots = start(core)
    assert [(t.task_index, t.input, t.flow_input) for t in roots] == [
        (0, 1, None),
        (1, None, None),
        (2, {"x": [2]}, None),
    ]
    for index in (2, 0, 1):
        finish(core, run, "root", index, f"r{index}")
    assert [task.input for task in start(core)] == ["r0", "r1", "r2"]
    for index in range(3):
        finish(core, run, "each", index, index)
    assert [task.input for task in start(core)] == [{"each": [0, 1, 2]}]


def test_a_step_after_an_empty_map_gets_an_empty_list(core):
    core.flow()
    add(core, "each", step_type="map")
    add(core, "end", "each")
    core.start([])
    assert [task.input for task in start(core)] == [{"each": []}]


@pytest.fixture
def small(core):
    """A flow whose values over 10 bytes are blobs."""

    def define(*steps):
        core.flow(*steps)
        core.db.execute("update pgflow.flows set opt_blob_threshold = 10")

    return define


LONG = "x" * 100


def test_values_that_sql_has_stored_are_read_for_the_worker(core, small):
    small("a", "b<a")
    run = core.start(LONG)
    (a,) = start(core)
    assert (a.input, a.flow_input, a.blobs_refs) == ({}, LONG, {})
    core.complete(run, "a", [LONG])
    (b,) = start(core)
    assert (b.input, b.blobs_refs) == ({"a": [LONG]}, {})


def test_long_elements_and_long_lists_of_outputs_are_read_for_the_worker(core, small):
    small()
    add(core, "each", step_type="map")
    add(core, "again", "each", step_type="map")
    add(core, "end", "each")
    run = core.start([LONG, 2])
    assert [task.input for task in start(core)] == [LONG, 2]
    finish(core, run, "each", 0, {"long": LONG})
    finish(core, run, "each", 1, "short")
    assert core.task(run, "end").status == "queued"
    tasks = {(t.step_slug, t.task_index): t.input for t in start(core)}
    assert tasks == {
        ("again", 0): {"long": LONG},
        ("again", 1): "short",
        ("end", 0): {"each": [{"long": LONG}, "short"]},
    }


def test_what_sql_cannot_read_is_named_by_its_blob(core, small):
    small("a", "b", "c<a,b")
    run = core.start()
    blob = core.blob(run, "a")
    core.db.execute("update pgflow.output_blobs set codec = 'zstd' where id = %s", [blob])
    core.settle(Outcome(run, "a", attempt=None, blob=blob))
    core.complete(run, "b", LONG)
    (task,) = start(core)
    assert (task.input, task.blobs_refs) == ({"b": LONG}, {"a": str(blob)})


def test_a_list_with_an_element_that_sql_cannot_read_is_named_by_its_blob(core, small):
    small()
    add(core, "each", step_type="map")
    add(core, "end", "each")
    run = core.start([1, 2])
    finish(core, run, "each", 0, 1)
    finish(core, run, "each", 1, LONG)
    core.db.execute(
        "update pgflow.output_blobs set codec = 'zstd' where step_slug = 'each' and task_index = 1"
    )
    (task,) = start(core)
    assert (task.input, task.blobs_refs) == (
        {},
        {"each": str(state(core, run, "each").output_blob_id)},
    )


def test_an_element_that_sql_cannot_read_is_named_by_its_blob(core, small):
    small()
    add(core, "each", step_type="map")
    add(core, "again", "each", step_type="map")
    run = core.start([1])
    finish(core, run, "each", 0, LONG)
    core.db.execute(COMPRESSED, [0])
    (task,) = start(core)
    (blob,) = core.rows("select id from pgflow.output_blobs where task_index = 0")
    assert (task.input, task.blobs_refs) == (None, {"each.each": str(blob.id)})


def test_a_started_task_that_fails_is_queued_and_started_again(core, worker):
    core.flow("a", max_attempts=2, base_delay=0)
    run = core.start()
    start(core)
    task = core.fail(run, "a")
    assert (task.status, task.started_at, task.error_message) == ("queued", None, "boom")
    (again,) = start(core)
    assert again.attempts_count == 2
    assert core.fail(run, "a").status == "failed"
    assert core.run(run).status == "failed"


def test_a_started_task_is_completed(core, worker):
    core.flow("a")
    run = core.start()
    start(core)
    assert core.complete(run, "a", 1).status == "completed"
    assert core.run(run).status == "completed"
    assert core.queued() == []


def test_our_own_workers_leave_a_started_task_until_its_message_reappears(core, worker):
    core.flow("a")
    run = core.start()
    start(core)
    assert core.claim().tasks == []
    core.lapse()
    assert [task.attempts_count for task in core.claim().tasks] == [2]
    assert core.task(run, "a").worker_id == core.worker
    assert core.task(run, "a").status == "queued"


def test_the_last_attempt_of_a_started_task_fails_when_its_message_reappears(core, worker):
    core.flow("a", max_attempts=1, timeout=7)
    run = core.start()
    start(core)
    core.lapse()
    assert core.claim().tasks == []
    task = core.task(run, "a")
    assert (task.status, core.run(run).status) == ("failed", "failed")
    assert task.error_message == "attempt 1 gave no answer within its 7 seconds"


def test_a_started_task_that_reappears_says_how_much_it_loads(core, small):
    small("a")
    core.start(LONG)
    start(core)
    core.lapse()
    claim = core.claim(max_bytes=1)
    assert (claim.tasks, claim.next_bytes) == ([], len(LONG) + 2)


def test_a_task_that_stalls_is_queued_again_three_times(core, worker):
    core.flow("a", timeout=10)
    run = core.start()
    for n in (1, 2, 3):
        (task,) = start(core, core.queued())
        core.db.execute(STALE, [39])
        assert core.value("select pgflow.requeue_stalled_tasks()") == 0
        core.db.execute(STALE, [41])
        assert core.value("select pgflow.requeue_stalled_tasks()") == 1
        assert core.value("select pgflow.requeue_stalled_tasks()") == 0
        stalled = core.task(run, "a")
        assert (stalled.status, stalled.requeued_count, stalled.attempts_count) == ("queued", n, n)
        assert (stalled.started_at, stalled.last_worker_id) == (None, None)
        assert stalled.last_requeued_at is not None
        assert core.hidden_for(task.msg_id) <= 0
    start(core)
    core.db.execute(STALE, [41])
    assert core.value("select pgflow.requeue_stalled_tasks()") == 0
    last = core.task(run, "a")
    assert (last.status, last.requeued_count) == ("started", 3)
    assert last.permanently_stalled_at is not None
    assert (core.queued(), core.archived()) == ([], [last.message_id])
    assert core.value("select pgflow.requeue_stalled_tasks()") == 0
    assert core.task(run, "a") == last


def test_a_steps_own_timeout_says_when_it_stalls(core, worker):
    core.flow(timeout=1000)
    core.step("a", timeout=10)
    core.step("b")
    run = core.start()
    start(core)
    core.db.execute(STALE, [41])
    assert core.value("select pgflow.requeue_stalled_tasks()") == 1
    assert core.tasks(run) == {"a": "queued", "b": "started"}


@pytest.mark.parametrize(
    "ended",
    [
        "update pgflow.runs set status = 'failed'",
        "update pgflow.step_states set status = 'skipped'",
    ],
)
def test_tasks_of_what_does_not_go_on_are_not_queued_again(core, worker, ended):
    core.flow("a")
    core.start()
    start(core)
    core.db.execute(STALE, [1000])
    core.db.execute(ended)
    assert core.value("select pgflow.requeue_stalled_tasks()") == 0


def test_tasks_of_every_flow_are_queued_again_and_a_lost_queue_does_not_matter(core):
    core.flow("a", slug="lost")
    core.flow("a", slug="other")
    core.flow("a")
    for slug in ("lost", "other", "f"):
        core.start(slug=slug)
        start(core, slug=slug)
    core.db.execute("drop table pgmq.q_lost")
    core.db.execute(STALE, [1000])
    assert core.value("select pgflow.requeue_stalled_tasks()") == 2


def test_tasks_of_our_own_workers_are_not_requeued(core):
    core.flow("a")
    core.start()
    core.claim()
    core.db.execute(STALE, [1000])
    assert core.value("select pgflow.requeue_stalled_tasks()") == 0


def test_without_pg_cron_nothing_can_be_scheduled(core):
    with pytest.raises(errors.FeatureNotSupported, match="pg_cron is not installed"):
        core.rows("select pgflow.setup_requeue_stalled_tasks_cron()")


def test_with_pg_cron_a_job_is_scheduled(core):
    core.db.execute(
        """
        create schema cron;
        create table cron.job (jobid bigint, jobname text, schedule text, command text);
        create function cron.schedule(name text, schedule text, command text)
        returns bigint language sql as $$
          insert into cron.job values (7, name, schedule, command) returning jobid
        $$;
        """
    )
    told = core.value("select pgflow.setup_requeue_stalled_tasks_cron('30 seconds')")
    job = core.row("select * from cron.job")
    assert (job.schedule, job.command) == ("30 seconds", "select pgflow.requeue_stalled_tasks()")
    assert job.jobname in told
