"""Queues and messages that are lost, and what brings them back."""

import pytest
from psycopg.types.json import Jsonb

from ...parts.models.core import Outcome

DROP = "select pgmq.drop_queue('f')"
RESTORE = "select pgflow.restore_queue('f')"
REQUEUE = "select pgflow.requeue_lost_tasks('f')"
LOSE = {
    "the queue": DROP,
    "the table of the queue": "drop table pgmq.q_f",
    "the tables": "drop table pgmq.q_f, pgmq.a_f",
    "the queue, made again by hand": f"{DROP}; select pgmq.create('f'), pgflow.adopt_queue('f')",
    "all messages": "select pgmq.purge_queue('f')",
    "all messages and their numbers": "truncate pgmq.q_f restart identity",
    "messages that were deleted": "select pgmq.delete('f', msg_id) from pgmq.q_f",
    "messages that were archived": "select pgmq.archive('f', msg_id) from pgmq.q_f",
}
TOLD = 'the queue of flow "f" is lost: its tasks wait until `pgflow-events migrate` makes it again'


def lost(core):
    found = core.rows("select run_id, step_slug from pgflow.lost_tasks('f')")
    return {(row.run_id, row.step_slug) for row in found}


def outcomes(claim, **outcome):
    return [Outcome(t.run_id, t.step_slug, t.attempts_count, **outcome) for t in claim.tasks]


def told(core):
    """What the server says meanwhile."""
    said = []
    core.db.add_notice_handler(
        lambda notice: said.append((notice.sqlstate, notice.message_primary))
    )
    return said


# While they are lost


def test_a_claim_goes_on_with_other_flows_and_says_which_queue_is_lost(core):
    core.flow("a")
    core.flow("a", slug="g")
    core.start()
    run = core.start(slug="g")
    core.db.execute(DROP)
    said = told(core)
    claim = core.claim(10, ("f", "g"))
    assert [task.run_id for task in claim.tasks] == [run]
    assert said == [("42P01", TOLD)]


def test_a_lost_queue_is_looked_for_again_after_five_seconds(core):
    core.flow("a")
    core.start()
    core.db.execute(DROP)
    assert core.claim().next_due == pytest.approx(5, abs=0.5)
    core.rows(RESTORE)
    assert core.claim().next_due is None


def test_a_flow_that_was_deleted_keeps_no_other_from_its_tasks(core):
    core.flow("a")
    run = core.start()
    said = told(core)
    assert [task.run_id for task in core.claim(10, ("gone", "f")).tasks] == [run]
    assert said == [("42P01", 'there is no flow "gone" any more: a worker that starts defines it')]


@pytest.mark.parametrize("drop", [DROP, "drop table pgmq.q_f", "drop table pgmq.a_f"])
def test_whatever_ends_meanwhile_is_settled_in_one_call_with_tasks_of_other_flows(core, drop):
    core.flow("a", "b<a", "c", "d", max_attempts=2)
    core.flow("a", slug="g")
    run, other = core.start(), core.start(slug="g")
    tasks = core.claim(10, ("f", "g")).tasks
    core.db.execute(drop)
    claim = core.settle(
        Outcome(run, "a"),
        Outcome(run, "c", error="boom"),
        Outcome(other, "a"),
        qty=10,
        flows=("f", "g"),
    )
    assert len(tasks) == 4
    assert claim.refused is None
    assert core.run(other).status == "completed"
    assert core.tasks(run) == {"a": "completed", "b": "queued", "c": "queued", "d": "queued"}


def test_a_run_that_starts_meanwhile_waits(core):
    core.flow("a")
    core.db.execute(DROP)
    run = core.start()
    assert lost(core) == {(run, "a")}
    core.rows(RESTORE)
    assert core.value(REQUEUE) == 1
    assert [task.run_id for task in core.poll()] == [run]


@pytest.mark.parametrize("value", ["x", "x" * 10_000], ids=["short", "long"])
@pytest.mark.parametrize("is_lost_before", [True, False], ids=["before", "after"])
def test_a_delayed_run_keeps_its_moment(core, value, is_lost_before):
    core.flow("a")
    start = "select pgflow.start_flows('f', array[%s]::jsonb[], delay => 100)"
    if is_lost_before:
        core.db.execute(DROP)
    core.rows(start, Jsonb(value))
    if not is_lost_before:
        core.db.execute(DROP)
    core.rows(RESTORE)
    assert core.value(REQUEUE) == 1
    assert core.rows(
        "select q.vt = t.queued_at as is_told, q.vt > clock_timestamp() + interval '99 s' as waits"
        " from pgflow.step_tasks t join pgmq.q_f q on q.msg_id = t.message_id"
    ) == [(True, True)]
    assert core.claim().next_due == pytest.approx(100, abs=1)


def test_other_calls_of_a_worker_go_on_too(core):
    core.flow("a")
    run = core.start()
    core.claim()
    core.db.execute(DROP)
    assert core.value("select pgflow.fail_lapsed_tasks('{f}')") == 0
    assert core.value("select pgflow.free_tasks(%s, '{f}')", core.worker) == []
    released = "select pgflow.release_tasks(array[%s::uuid], '{a}', '{0}', '{1}', %s)"
    assert core.value(released, run, core.worker) == 1
    assert core.rows("select * from pgflow.workers") == []


# What brings them back


@pytest.mark.parametrize("loss", LOSE.values(), ids=LOSE)
def test_all_runs_complete_afterwards_whatever_is_lost(core, loss):
    core.flow("a", "b<a", "c<b")
    archived = core.start_many(5)
    while (claim := core.claim(20)).tasks:
        core.settle(*outcomes(claim))
    waiting, running, retried = core.start(), core.start(), core.start()
    core.claim(3)
    core.rows(
        "select pgflow.release_tasks(array[%s::uuid], '{a}', '{0}', '{1}', %s)",
        waiting,
        core.worker,
    )
    core.fail(retried, "a")
    core.db.execute(loss)
    core.rows(RESTORE)
    assert lost(core) == {(run, "a") for run in (waiting, running, retried)}
    assert core.value(REQUEUE) == 3
    assert (lost(core), core.value(REQUEUE)) == (set(), 0)

    assert [task.run_id for task in core.claim().tasks] == [waiting]
    core.settle(Outcome(waiting, "a"), Outcome(running, "a"))
    core.lapse()
    while (claim := core.claim(20)).tasks:
        core.settle(*outcomes(claim))
    for run in (*archived, waiting, running, retried):
        assert core.run(run).status == "completed"
    assert core.task(retried, "a").attempts_count == 2
    assert core.queued() == []


def test_a_task_under_way_is_not_claimed_before_its_time_is_over(core):
    core.flow("a", timeout=40)
    run = core.start()
    core.claim()
    core.rows("select pgmq.purge_queue('f')")
    core.rows(REQUEUE)
    message_id = core.task(run, "a").message_id
    assert 41 < core.hidden_for(message_id) < 43
    assert core.claim().tasks == []
    core.settle(Outcome(run, "a"))
    assert (core.run(run).status, core.queued()) == ("completed", [])


def test_a_task_under_way_whose_time_is_over_is_claimed_at_once_or_fails_as_lapsed(core):
    core.flow("a", max_attempts=2)
    run = core.start()
    for attempt in (1, 2):
        (task,) = core.claim().tasks
        assert task.attempts_count == attempt
        core.db.execute("update pgflow.step_tasks set started_at = started_at - interval '1 h'")
        core.rows("select pgmq.purge_queue('f')")
        core.rows(REQUEUE)
    assert core.claim().tasks == []
    assert core.run(run).status == "failed"


def test_a_task_that_a_worker_of_pgflow_has_started_waits_for_its_time_too(core):
    core.flow("a", timeout=40)
    run = core.start()
    core.start_tasks(core.queued())
    core.rows("select pgmq.purge_queue('f')")
    assert core.value(REQUEUE) == 1
    assert 41 < core.hidden_for(core.task(run, "a").message_id) < 43
    core.lapse()
    assert [task.attempts_count for task in core.claim().tasks] == [2]


def test_a_task_that_has_stalled_for_good_stays_so(core):
    core.flow("a")
    core.start()
    core.start_tasks(core.queued())
    core.db.execute("update pgflow.step_tasks set permanently_stalled_at = clock_timestamp()")
    core.rows("select pgmq.purge_queue('f')")
    assert core.value(REQUEUE) == 0


def test_a_task_to_be_tried_again_waits_for_its_delay(core):
    core.flow("a", base_delay=100)
    run = core.start()
    core.claim()
    core.fail(run, "a")
    core.rows("select pgmq.purge_queue('f')")
    core.rows(REQUEUE)
    delay = core.value("select pgflow.calculate_retry_delay(100, 1)")
    message_id = core.task(run, "a").message_id
    assert delay - 2 < core.hidden_for(message_id) < delay + 2


def test_only_as_many_are_requeued_as_asked_for(core):
    core.flow("a")
    core.start_many(5)
    core.rows("select pgmq.purge_queue('f')")
    requeued = [core.value("select pgflow.requeue_lost_tasks('f', 2)") for _ in range(4)]
    assert requeued == [2, 2, 1, 0]


def test_runs_that_have_ended_have_lost_nothing(core):
    core.flow("a", max_attempts=1)
    done, failed = core.start(), core.start()
    core.claim()
    core.settle(Outcome(done, "a"), Outcome(failed, "a", error="boom"))
    assert lost(core) == set()


def test_a_queue_that_is_made_again_begins_after_the_numbers_of_the_old_one(core):
    core.flow("a")
    core.start_many(9)
    for task in core.claim(4).tasks:
        core.settle(Outcome(task.run_id, "a"))
    core.db.execute(DROP)
    core.rows(RESTORE)
    run = core.start()
    assert core.task(run, "a").message_id > 9


def test_create_flow_makes_a_lost_queue_again(core):
    core.flow("a")
    old = core.start()
    core.db.execute(DROP)
    core.rows("select pgflow.create_flow('f')")
    new = core.start()
    assert [task.run_id for task in core.poll()] == [new]
    core.rows(REQUEUE)
    assert [task.run_id for task in core.poll()] == [old]


def test_a_lost_archive_is_made_again_and_the_messages_stay(core):
    core.flow("a")
    run = core.start()
    core.db.execute("drop table pgmq.a_f")
    core.rows(RESTORE)
    assert [task.run_id for task in core.poll()] == [run]
    core.complete(run, "a", 1)
    assert len(core.archived()) == 1


def test_the_queue_of_another_application_is_not_restored(core):
    core.flow("a")
    core.db.execute(f"{DROP}; select pgmq.create('f'); drop table pgmq.a_f")
    core.rows(RESTORE)
    assert core.value("select to_regclass('pgmq.a_f')") is None
