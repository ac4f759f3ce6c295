"""start_flow() and start_flows(): runs, the states of their steps, the first of their tasks."""

from uuid import UUID

import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from ...parts.models.core import WORKER

A, B = UUID(int=0xA), UUID(int=0xB)


def test_a_run_is_started_with_its_input_and_all_its_steps_to_go(core):
    core.flow("a", "b<a")
    (run,) = core.rows("select * from pgflow.start_flow('f', %s)", Jsonb({"url": "x"}))
    assert (run.flow_slug, run.status, run.input) == ("f", "started", {"url": "x"})
    assert (run.output, run.remaining_steps) == (None, 2)
    assert core.run(run.run_id) == run


def test_only_the_roots_of_a_run_are_started(core):
    core.flow("a", "b", "c<a,b")
    run = core.start()
    states = core.rows("select * from pgflow.step_states order by step_slug")
    assert [(s.step_slug, s.status, s.remaining_deps, s.remaining_tasks) for s in states] == [
        ("a", "started", 0, 1),
        ("b", "started", 0, 1),
        ("c", "created", 2, 1),
    ]
    assert core.tasks(run) == {"a": "queued", "b": "queued"}


def test_roots_are_queued_in_the_order_of_their_definition(core):
    core.flow("zeta", "alpha", "mid<zeta", "beta")
    core.start()
    queued = core.rows("select message ->> 'step_slug' from pgmq.q_f order by msg_id")
    assert [row[0] for row in queued] == ["zeta", "alpha", "beta"]


def test_a_message_has_exactly_four_keys(core):
    core.flow("a")
    run = core.start()
    assert core.value("select message from pgmq.q_f") == {
        "flow_slug": "f",
        "run_id": str(run),
        "step_slug": "a",
        "task_index": 0,
    }


def test_a_task_that_waits_has_not_been_attempted(core):
    core.flow("a")
    run = core.start()
    task = core.task(run, "a")
    assert (task.status, task.attempts_count, task.task_index) == ("queued", 0, 0)
    assert (task.output, task.error_message, task.started_at) == (None, None, None)
    assert [task.message_id] == core.queued()


@pytest.mark.parametrize("value", [0, False, "", [], {}, None])
def test_an_input_that_is_empty_is_kept_as_it_is(core, value):
    core.flow("a")
    run = core.start(value)
    assert core.run(run).input == value
    assert core.poll()[0].input == {"run": value}


def test_a_run_without_an_input_is_refused(core):
    core.flow("a")
    with pytest.raises(errors.NotNullViolation, match='"input"'):
        core.rows("select * from pgflow.start_flow('f', null)")


def test_a_run_of_an_unknown_flow_is_refused(core):
    with pytest.raises(errors.NoDataFound, match='unknown flow "missing"'):
        core.start(slug="missing")


def test_a_flow_without_steps_completes_at_once_with_an_empty_output(core):
    core.flow()
    run = core.run(core.start())
    assert (run.status, run.output, run.remaining_steps) == ("completed", {}, 0)


def test_runs_are_returned_in_the_order_of_their_inputs(core):
    core.flow("a")
    runs = core.rows("select * from pgflow.start_flows('f', %s)", [Jsonb(n) for n in range(20)])
    assert [run.input for run in runs] == list(range(20))
    assert len({run.run_id for run in runs}) == 20


def test_runs_started_together_are_queued_in_the_order_of_their_inputs(core):
    core.flow("a", "b")
    runs = core.start_many(5)
    polled = [(task.run_id, task.step_slug) for task in core.poll(qty=10)]
    assert polled == [(run, step) for run in runs for step in "ab"]


def test_ids_of_runs_may_be_given(core):
    core.flow("a")
    runs = core.rows("select * from pgflow.start_flows('f', array['1','2']::jsonb[], %s)", [B, A])
    assert [(run.run_id, run.input) for run in runs] == [(B, 1), (A, 2)]


def test_an_id_is_made_for_each_run_that_is_given_none(core):
    core.flow("a")
    runs = core.rows(
        "select * from pgflow.start_flows('f', array['1','2','3']::jsonb[], %s)", [None, A]
    )
    assert runs[1].run_id == A
    assert runs[0].run_id.version == runs[2].run_id.version == 7


def test_ids_made_later_sort_later(core):
    first, later = core.row("select pgflow.new_id(), pg_sleep(0.002), pgflow.new_id() as b")[::2]
    assert first < later
    assert first.variant == later.variant == "specified in RFC 4122"


def test_an_input_that_is_a_blob_is_named_in_the_refs_of_its_tasks(core):
    core.flow("a")
    blob = core.blob(A, "run")
    (run,) = core.rows("select * from pgflow.start_flows('f', %s, %s, %s)", [None], [A], [blob])
    assert (run.input, run.input_blob_id, run.has_blobs) == (None, blob, True)
    (task,) = core.claim().tasks
    assert task.input == {}
    assert task.blobs_refs == {"run": str(blob)}


def test_inputs_and_blobs_may_be_mixed(core):
    core.flow("a")
    blob = core.blob(B, "run")
    core.rows(
        "select * from pgflow.start_flows('f', %s, %s, %s)", [Jsonb(1), None], [A, B], [None, blob]
    )
    first, second = core.claim().tasks
    assert (first.input, first.blobs_refs) == ({"run": 1}, {})
    assert (second.input, second.blobs_refs) == ({}, {"run": str(blob)})


WRITTEN = """
select
  to_jsonb(s) - array['run_id', 'created_at', 'started_at'] as state,
  s.started_at is null as waits,
  to_jsonb(t) - array['run_id', 'message_id', 'queued_at', 'input_bytes'] as task,
  m.message - 'run_id' as message, m.read_ct, m.vt <= clock_timestamp() as is_visible
from pgflow.step_states s
left join pgflow.step_tasks t using (run_id, step_slug)
left join pgmq.q_f m on m.msg_id = t.message_id and m.message ->> 'run_id' = t.run_id::text
where s.run_id = %s order by s.step_slug
"""


def test_a_long_input_starts_the_same_as_a_short_one(core):
    core.flow("zeta", "alpha", "mid<zeta,alpha", "beta")
    short, long = core.start("x"), core.start("x" * 10_000)
    assert (core.run(short).has_blobs, core.run(long).has_blobs) == (False, True)
    assert core.run(short).remaining_steps == core.run(long).remaining_steps == 4
    assert core.rows(WRITTEN, short) == core.rows(WRITTEN, long)


def test_one_long_input_among_short_ones_starts_them_all(core):
    core.flow("a")
    inputs = [Jsonb("x" * size) for size in (1, 10_000, 2)]
    runs = core.rows("select * from pgflow.start_flows('f', %s)", inputs)
    assert [run.has_blobs for run in runs] == [False, True, False]
    assert [task.run_id for task in core.claim().tasks] == [run.run_id for run in runs]


def test_a_short_input_starts_by_one_statement(core):
    core.flow("a", "b<a")
    core.db.execute("alter function pgflow_queues.advance_q_f rename to gone")
    run = core.start()
    assert [task.run_id for task in core.poll()] == [run]


DELAYED = """
select run_id from pgflow.start_flows('f', array[%s]::jsonb[], delay => %s)
"""
WAITS = """
select
  q.vt = t.queued_at as is_told, q.vt > clock_timestamp() + make_interval(secs => %s) as waits
from pgflow.step_tasks t join pgmq.q_f q on q.msg_id = t.message_id
"""


@pytest.mark.parametrize("value", ["x", "x" * 10_000], ids=["short", "long"])
def test_the_first_tasks_of_a_delayed_run_wait(core, value):
    core.flow("a", "b", "c<a")
    (run,) = core.rows(DELAYED, Jsonb(value), 100)
    assert core.tasks(run.run_id) == {"a": "queued", "b": "queued"}
    assert core.rows(WAITS, 99) == [(True, True), (True, True)]
    assert core.poll() == []


@pytest.mark.parametrize("value", ["x", "x" * 10_000], ids=["short", "long"])
def test_a_step_after_a_delayed_one_does_not_wait(core, value):
    core.flow("a", "b<a")
    core.rows(DELAYED, Jsonb(value), 100)
    core.db.execute("update pgmq.q_f set vt = clock_timestamp()")
    (first,) = core.poll()
    core.complete(first.run_id, "a")
    assert [task.step_slug for task in core.poll()] == ["b"]


@pytest.mark.parametrize("delay", [-1, "NaN", "infinity", "-infinity", 3153600001, None])
def test_what_is_no_delay_is_refused(core, delay):
    core.flow("a")
    with pytest.raises(errors.InvalidParameterValue, match="delay of a start is 0 to 3153600000 s"):
        core.rows(DELAYED, Jsonb("x"), delay)


def test_no_inputs_start_no_runs(core):
    core.flow("a")
    assert core.rows("select * from pgflow.start_flows('f', '{}')") == []
    assert core.queued() == []


def test_a_new_run_is_claimed_by_nobody(core):
    core.flow("a")
    run = core.start()
    assert core.task(run, "a").worker_id is None
    core.claim()
    assert core.task(run, "a").worker_id == WORKER


def test_states_and_tasks_go_with_their_run(core):
    core.flow("a", "b<a")
    gone, kept = core.start_many(2)
    core.delete([gone])
    assert (core.states(gone), core.tasks(gone)) == ({}, {})
    assert core.states(kept) == {"a": "started", "b": "created"}


def test_states_and_tasks_go_with_all_runs_and_their_messages_are_archived(core):
    core.flow("a")
    core.start_many(2)
    core.db.execute("truncate pgflow.runs")
    assert core.value("select count(*) from pgflow.step_states") == 0
    assert core.value("select count(*) from pgflow.step_tasks") == 0
    assert core.claim().tasks == []
    assert (len(core.queued()), len(core.archived())) == (0, 2)
