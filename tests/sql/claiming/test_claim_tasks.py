"""claim_tasks(): what a worker of ours calls to get work."""

import pytest

from ...parts.models.core import WORKER


def test_a_claim_takes_tasks_of_several_flows_in_the_order_of_the_flows(core):
    core.flow("a")
    core.flow("b", slug="g")
    core.start_many(2)
    core.start_many(2, slug="g")
    claim = core.claim(3, ("g", "f"))
    assert [(task.flow_slug, task.input["run"]) for task in claim.tasks] == [
        ("g", 0),
        ("g", 1),
        ("f", 0),
    ]


READ = """
select idx_tup_fetch from pg_stat_xact_user_tables where relid = 'pgflow.step_tasks'::regclass
"""


@pytest.mark.parametrize("statistics", ["none", "of a run that is not there yet"])
def test_a_claim_in_a_wide_run_reads_each_task_a_few_times(core, statistics):
    wide = [f"m{n}<src" for n in range(200)]
    core.flow("src", *wide, "join<" + ",".join(f"m{n}" for n in range(200)))
    if statistics != "none":
        core.db.execute("analyze pgflow.deps, pgflow.steps, pgflow.step_tasks")
    run = core.start(1)
    core.complete(run, "src")
    before = core.value(READ)
    assert len(core.claim(50).tasks) == 50
    assert core.value(READ) - before < 10 * 50


def test_a_claim_takes_no_more_than_it_asks_for(core):
    core.flow("a")
    runs = core.start_many(5)
    assert [task.run_id for task in core.claim(2).tasks] == runs[:2]
    assert [task.run_id for task in core.claim(9).tasks] == runs[2:]


@pytest.mark.parametrize("qty", [0, -1])
def test_a_claim_of_no_tasks_still_tells_when_some_are_due(core, qty):
    core.flow("a")
    core.start()
    claim = core.claim(qty)
    assert (claim.tasks, claim.next_due) == ([], 0)


def test_a_claimed_task_is_that_workers_at_its_first_attempt(core):
    core.flow("a", timeout=9)
    run = core.start()
    (claimed,) = core.claim().tasks
    assert (claimed.run_id, claimed.attempts_count, claimed.timeout) == (run, 1, 9)
    task = core.task(run, "a")
    assert (task.worker_id, task.status, task.attempts_count) == (WORKER, "queued", 1)
    assert task.started_at > task.queued_at


def test_the_last_row_of_a_claim_has_no_task_and_nothing_owed(core):
    core.flow("a")
    core.start()
    claim = core.claim()
    assert (claim.refused, claim.owed_tasks, claim.owed_runs) == (None, None, None)


def test_nothing_is_due_where_there_are_no_messages(core):
    core.flow("a")
    assert core.claim().next_due is None
    assert core.claim(10, ()).next_due is None


@pytest.mark.parametrize("time", ["infinity", "-infinity", "4713-01-01 BC", "294276-12-31"])
def test_a_message_may_say_any_time(core, time):
    core.flow("a")
    core.start()
    core.db.execute("update pgmq.q_f set vt = %s::timestamptz", [time])
    claim = core.claim(0)
    assert claim.next_due == 0 if time in {"-infinity", "4713-01-01 BC"} else claim.next_due < 4e7


def test_what_waits_for_a_worker_is_due_now(core):
    core.flow("a")
    core.start_many(2)
    assert core.claim(1).next_due == 0


def test_what_is_claimed_is_due_when_its_timeout_and_two_seconds_are_over(core):
    core.flow("a", timeout=9)
    core.start()
    core.claim()
    assert core.claim().next_due == pytest.approx(11, abs=0.5)


def test_after_all_that_it_saw_was_claimed_a_worker_is_to_look_again_half_a_second_later(core):
    core.flow("a", timeout=9)
    core.start()
    assert core.claim().next_due == 0.5


def test_a_retry_is_due_after_its_delay(core):
    core.flow("a", base_delay=20)
    run = core.start()
    core.claim()
    core.fail(run, "a")
    assert core.claim().next_due == pytest.approx(40, abs=0.5)


def test_the_next_due_time_is_the_soonest_of_all_flows(core):
    core.flow("a", timeout=100)
    core.flow("a", slug="g", timeout=9)
    core.flow("a", slug="h")
    core.start()
    core.start(slug="g")
    core.claim(10, ("f", "g", "h"))
    assert core.claim(10, ("f", "g", "h")).next_due == pytest.approx(11, abs=0.5)


def test_no_flow_is_looked_at_after_the_last_slot_is_taken(core):
    core.flow("a")
    core.flow("a", slug="g")
    core.start()
    assert core.claim(1, ("f", "g")).next_due == 0


def test_a_claim_and_its_answer_are_for_the_flows_it_names_only(core):
    core.flow("a")
    core.flow("a", slug="g")
    core.start()
    claim = core.claim(10, ("g",))
    assert (claim.tasks, claim.next_due) == ([], None)


def test_a_claim_does_not_wait_for_the_disk_and_only_its_own_transaction_does_not(core):
    core.flow("a")
    assert core.value("show synchronous_commit") == "on"
    core.claim()
    assert core.value("show synchronous_commit") == "off"
    core.db.rollback()
    assert core.value("show synchronous_commit") == "on"


def test_a_completion_waits_for_the_disk(core):
    core.flow("a")
    core.settle(qty=10)
    assert core.value("show synchronous_commit") == "on"


def test_messages_without_a_task_are_archived_by_a_claim(core):
    core.flow("a")
    run = core.start()
    core.db.execute("delete from pgflow.step_tasks where run_id = %s", [run])
    claim = core.claim()
    assert (claim.tasks, claim.next_due) == ([], None)
    assert core.queued() == []


def test_a_task_whose_worker_died_is_claimed_again_at_its_next_attempt(core):
    core.flow("a")
    run = core.start()
    core.claim()
    core.lapse()
    assert [(task.run_id, task.attempts_count) for task in core.claim().tasks] == [(run, 2)]
