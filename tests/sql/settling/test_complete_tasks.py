"""complete_tasks(): what a worker of ours calls to hand in results and get more work."""

from uuid import UUID

import pytest

from ...parts.models.core import WORKER, Outcome


def test_completed_tasks_hand_over_what_they_made_ready(core):
    core.flow("a", "b<a", "c<a", timeout=9)
    run = core.start("in")
    core.claim()
    claim = core.settle(Outcome(run, "a", output="A"), qty=10)
    assert [(task.step_slug, task.attempts_count, task.timeout) for task in claim.tasks] == [
        ("b", 1, 9),
        ("c", 1, 9),
    ]
    assert claim.tasks[0].input == {"run": "in", "a": "A"}
    assert claim.refused is None
    assert claim.next_due == pytest.approx(11, abs=0.5)


def test_a_task_that_is_handed_over_looks_like_one_that_was_claimed(core):
    core.flow("a", "b<a", timeout=9)
    run = core.start()
    core.settle(Outcome(run, "a", attempt=None), qty=1)
    task = core.task(run, "b")
    assert (task.status, task.attempts_count, task.worker_id) == ("queued", 1, WORKER)
    assert task.started_at is not None
    assert core.hidden_for(task.message_id) == pytest.approx(11, abs=0.5)
    assert core.value("select read_ct from pgmq.q_f") == 1
    assert core.claim().tasks == []


def test_a_task_beyond_what_was_asked_for_waits_and_its_workers_are_owed_a_wake_up(core):
    core.flow("a", "b<a", "c<a")
    run = core.start()
    core.claim()
    claim = core.settle(Outcome(run, "a"), qty=1)
    assert (claim.steps, claim.owed_tasks, claim.next_due) == (["b"], ["f"], 0)
    waiting = core.task(run, "c")
    assert (waiting.attempts_count, waiting.worker_id, waiting.started_at) == (0, None, None)
    assert core.claim().steps == ["c"]


def test_nobody_is_owed_a_wake_up_where_all_was_handed_over(core):
    core.flow("a", "b<a")
    run = core.start()
    core.claim()
    claim = core.settle(Outcome(run, "a"), qty=1)
    assert (claim.owed_tasks, claim.owed_runs) == ([], [])


def test_what_became_ready_goes_before_what_waits_and_both_within_the_quantity(core):
    core.flow("a", "b<a")
    run, *others = core.start_many(4)
    core.claim(1)
    claim = core.settle(Outcome(run, "a"), qty=3)
    assert [(task.run_id, task.step_slug) for task in claim.tasks] == [
        (run, "b"),
        (others[0], "a"),
        (others[1], "a"),
    ]


def test_steps_of_several_runs_are_handed_over_in_the_order_of_the_call(core):
    core.flow("a", "b<a", "c<a")
    first, second = core.start_many(2)
    core.claim()
    claim = core.settle(Outcome(second, "a"), Outcome(first, "a"), qty=3)
    assert {(task.run_id, task.step_slug) for task in claim.tasks} == {
        (second, "b"),
        (second, "c"),
        (first, "b"),
    }


def test_tasks_of_several_flows_are_completed_in_one_call(core):
    core.flow("a", "b<a")
    core.flow("x", "y<x", slug="g")
    run, other = core.start(1), core.start(2, slug="g")
    core.claim(10, ("f", "g"))
    claim = core.settle(Outcome(run, "a"), Outcome(other, "x"), qty=10, flows=("f", "g"))
    assert {(task.flow_slug, task.step_slug) for task in claim.tasks} == {("f", "b"), ("g", "y")}
    assert core.archived() == core.archived("g") == [1]


def test_of_several_flows_that_of_the_first_outcome_is_handed_over_first(core):
    core.flow("a", "b<a")
    core.flow("x", "y<x", slug="g")
    run, other = core.start(1), core.start(2, slug="g")
    core.claim(10, ("f", "g"))
    claim = core.settle(Outcome(other, "x"), Outcome(run, "a"), qty=1, flows=())
    assert [(task.flow_slug, task.step_slug) for task in claim.tasks] == [("g", "y")]
    assert claim.owed_tasks == ["f"]


def test_two_tasks_of_one_run_are_completed_in_one_call(core):
    core.flow("a", "b", "c<a,b")
    run = core.start()
    core.claim()
    claim = core.settle(Outcome(run, "a", output=1), Outcome(run, "b", output=2), qty=10)
    assert [(task.step_slug, task.input) for task in claim.tasks] == [
        ("c", {"run": None, "a": 1, "b": 2})
    ]
    assert core.run(run).remaining_steps == 1


def test_the_last_tasks_of_a_run_end_it_and_say_so(core):
    core.flow("a", "b")
    run, other = core.start_many(2)
    core.claim()
    claim = core.settle(
        Outcome(run, "a", output=1), Outcome(run, "b", output=2), Outcome(other, "a")
    )
    assert (claim.owed_runs, claim.owed_tasks) == (["f"], [])
    assert (core.run(run).status, core.run(run).output) == ("completed", {"a": 1, "b": 2})
    assert core.run(other).status == "started"


READ = """
select sum(idx_tup_fetch)::bigint from pg_stat_xact_user_tables
where relid::regclass::text in ('pgflow.step_states', 'pgflow.step_tasks', 'pgflow.deps')
"""


@pytest.mark.parametrize(
    "statistics", ["none", "of a run that is not there yet", "of runs that are gone"]
)
def test_a_wide_run_ends_with_a_few_look_ups_for_each_of_its_steps(core, statistics):
    wide = [f"m{n}<src" for n in range(200)]
    core.flow("src", *wide, *[f"n{n}<m{n}" for n in range(200)], "join<m0,m1")
    if statistics == "of runs that are gone":
        core.delete(core.start_many(30))
    if statistics == "none":  # whatever autovacuum has done with the empty tables of this database
        core.db.execute(
            "update pg_class set relpages = 0, reltuples = -1"
            " where oid in ('pgflow.deps'::regclass, 'pgflow.deps_pkey'::regclass,"
            " 'pgflow.deps_by_step'::regclass)"
        )
    else:
        core.db.execute("analyze pgflow.deps, pgflow.steps, pgflow.step_states, pgflow.step_tasks")
    run = core.start(1)
    core.complete(run, "src")
    for layer in ("m", "n"):
        core.settle(*[Outcome(run, f"{layer}{n}", attempt=None) for n in range(200)])
    before = core.value(READ)
    core.complete(run, "join")
    assert core.run(run).status == "completed"
    assert len(core.run(run).output) == 201
    assert core.value(READ) - before < 10 * 402


def test_a_batch_may_hold_successes_and_failures(core):
    core.flow("a", "b<a", base_delay=0)
    good, bad = core.start_many(2)
    core.claim()
    claim = core.settle(Outcome(good, "a"), Outcome(bad, "a", error="boom"), qty=1)
    assert [(task.run_id, task.step_slug) for task in claim.tasks] == [(good, "b")]
    assert claim.owed_tasks == ["f"]
    again = core.task(bad, "a")
    assert (again.status, again.error_message, again.worker_id) == ("queued", "boom", None)
    assert again.started_at is None


def test_a_task_without_a_delay_that_fails_is_claimed_again_by_the_same_call(core):
    core.flow("a", base_delay=0)
    run = core.start()
    core.claim()
    claim = core.settle(Outcome(run, "a", error="boom"), qty=1)
    assert [(task.run_id, task.attempts_count) for task in claim.tasks] == [(run, 2)]


def test_a_success_and_a_final_failure_of_one_run_end_it_in_failure(core):
    core.flow("a", "b", "c<a", max_attempts=1)
    run = core.start()
    core.claim()
    claim = core.settle(Outcome(run, "b", error="boom"), Outcome(run, "a", output=1), qty=10)
    assert (claim.tasks, claim.refused, claim.owed_runs) == ([], None, ["f"])
    assert core.tasks(run) == {"a": "completed", "b": "failed"}
    assert core.states(run) == {"a": "completed", "b": "failed", "c": "created"}
    assert (core.run(run).status, core.queued()) == ("failed", [])


def test_two_final_failures_of_one_run_are_both_kept(core):
    core.flow("a", "b", max_attempts=1)
    run = core.start()
    core.claim()
    claim = core.settle(Outcome(run, "a", error="one"), Outcome(run, "b", error="two"))
    assert (claim.refused, claim.owed_runs) == (None, ["f"])
    assert core.states(run) == {"a": "failed", "b": "failed"}
    assert [core.task(run, step).error_message for step in "ab"] == ["one", "two"]


def test_a_failure_with_attempts_left_ends_with_its_run_that_failed_in_the_same_call(core):
    core.flow("a")
    core.step("b", max_attempts=1)
    run = core.start()
    core.claim()
    core.settle(Outcome(run, "a", error="again"), Outcome(run, "b", error="never"), qty=10)
    assert core.tasks(run) == {"a": "cancelled", "b": "failed"}
    assert core.queued() == []


def test_a_permanent_failure_is_final_however_many_attempts_are_left(core):
    core.flow("a", max_attempts=9)
    run = core.start()
    core.claim()
    core.settle(Outcome(run, "a", error="poison", permanent=True))
    assert (core.task(run, "a").status, core.run(run).status) == ("failed", "failed")


def test_a_task_that_is_named_twice_in_a_call_counts_once(core):
    core.flow("a", "b<a")
    run = core.start()
    core.claim()
    claim = core.settle(Outcome(run, "a", output=1), Outcome(run, "a", output=1), qty=10)
    assert (claim.steps, claim.refused) == (["b"], [])
    assert core.run(run).remaining_steps == 1


def test_a_task_that_is_named_as_done_and_as_failed_has_failed(core):
    core.flow("a", max_attempts=1)
    run = core.start()
    core.claim()
    claim = core.settle(Outcome(run, "a", output=1), Outcome(run, "a", error="boom"))
    assert (core.task(run, "a").status, core.run(run).status) == ("failed", "failed")
    assert (core.run(run).output, claim.refused) == (None, [1])


def test_the_places_of_refused_tasks_are_told_and_the_others_are_settled(core):
    core.flow("a")
    first, last = core.start_many(2)
    core.claim()
    unknown = UUID(int=1)
    claim = core.settle(
        Outcome(unknown, "a"),
        Outcome(first, "a"),
        Outcome(first, "missing"),
        Outcome(last, "a", attempt=7),
        Outcome(last, "a"),
    )
    assert claim.refused == [1, 3, 4]
    assert core.run(first).status == core.run(last).status == "completed"


def test_a_call_may_settle_nothing_and_only_claim(core):
    core.flow("a")
    run = core.start()
    claim = core.settle(qty=1)
    assert [task.run_id for task in claim.tasks] == [run]
    assert (claim.refused, claim.owed_tasks, claim.owed_runs) == (None, [], [])


def test_a_worker_that_leaves_hands_in_and_gets_nothing(core):
    core.flow("a", "b<a")
    run = core.start()
    core.claim()
    claim = core.settle(Outcome(run, "a"), qty=0, flows=())
    assert (claim.tasks, claim.owed_tasks, claim.next_due) == ([], ["f"], None)
    assert core.task(run, "b").attempts_count == 0


def test_a_long_chain_is_worked_off_by_completions_alone(core):
    core.flow("s0", *(f"s{n}<s{n - 1}" for n in range(1, 6)))
    core.start("in")
    claim = core.claim()
    while claim.tasks:
        (task,) = claim.tasks
        claim = core.settle(Outcome(task.run_id, task.step_slug, output=task.step_slug), qty=1)
    assert core.value("select output from pgflow.runs") == {"s5": "s5"}
    assert claim.owed_runs == ["f"]


def test_a_completion_that_comes_upon_messages_without_a_task_says_that_nothing_is_due(core):
    core.flow("a")
    done, deleted = core.start_many(2)
    core.claim(1)
    core.db.execute("delete from pgflow.step_tasks where run_id = %s", [deleted])
    claim = core.settle(Outcome(done, "a", output=1), qty=1)
    assert (claim.tasks, claim.next_due) == ([], None)
    assert core.queued() == []
