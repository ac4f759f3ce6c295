"""Two sessions of the SQL core: what one sees, and waits for, while the other is at work."""

import time
from collections.abc import Iterator

import pytest
from psycopg import errors

from ..sql.core import Core, Outcome
from .sessions import at_once, meanwhile, sessions, until_waiting


@pytest.fixture
def two(database: str) -> Iterator[tuple[Core, Core]]:
    """Two sessions; a statement of the second one that waits for a lock fails."""
    with sessions(database, 2) as (one, other):
        other.db.execute("set lock_timeout = '50ms'")
        yield one, other


@pytest.fixture
def three(database: str) -> Iterator[list[Core]]:
    """Two sessions and one that looks on."""
    with sessions(database, 3) as opened:
        yield opened


def lapsed(core: Core, attempts: int = 9) -> object:
    """A run whose only task was claimed, and whose message is visible again."""
    core.flow("a", max_attempts=attempts)
    run = core.start()
    core.claim()
    core.lapse()
    return run


# Polls that wait


def test_a_poll_that_waits_gets_the_task_that_another_session_starts_meanwhile(three):
    poller, other, observer = three
    other.flow("a")
    with meanwhile(poller.rows, "select * from pgflow.poll_for_tasks('f', 1, 1, 10, 20)") as poll:
        until_waiting(observer, poller, "Timeout")
        run = other.start()
    assert [task.run_id for task in poll.result()] == [run]


def test_a_poll_that_waits_gets_the_task_whose_delay_ends_meanwhile(three):
    poller, other, observer = three
    run = lapsed(other)
    other.fail(run, "a")
    with meanwhile(poller.rows, "select * from pgflow.poll_for_tasks('f', 1, 1, 10, 20)") as poll:
        until_waiting(observer, poller, "Timeout")
        other.lapse()
    assert [task.attempts_count for task in poll.result()] == [2]


def test_an_empty_poll_lasts_as_long_as_it_may(two):
    core, _ = two
    core.flow("a")
    began = time.monotonic()
    assert core.rows("select * from pgflow.poll_for_tasks('f', 1, 1, 1, 10)") == []
    assert 1 <= time.monotonic() - began < 5


def test_a_poll_that_fails_a_lapsed_task_does_not_wait_with_its_run_in_hand(two):
    core, _ = two
    run = lapsed(core, attempts=1)
    began = time.monotonic()
    assert core.rows("select * from pgflow.poll_for_tasks('f', 1, 1, 30)") == []
    assert time.monotonic() - began < 10
    assert core.run(run).status == "failed"


# Claims wait for nobody


@pytest.mark.parametrize(
    "held", ["pgflow.runs", "pgflow.step_states", "pgflow.step_tasks", "pgmq.q_f"]
)
def test_a_claim_does_not_wait_for_rows_that_another_session_holds(two, held):
    holder, core = two
    core.flow("a")
    core.start()
    with holder.db.transaction():
        holder.rows(f"select from {held} for update")
        later = core.start()
        assert later in [task.run_id for task in core.claim().tasks]


def test_a_task_whose_message_is_held_is_claimed_afterwards(two):
    holder, core = two
    core.flow("a")
    run = core.start()
    with holder.db.transaction():
        holder.rows("select from pgmq.q_f for update")
        assert core.claim().tasks == []
    assert [task.run_id for task in core.claim().tasks] == [run]


def test_a_lapsed_task_whose_run_is_held_fails_afterwards(two):
    holder, core = two
    run = lapsed(core, attempts=1)
    with holder.db.transaction():
        holder.rows("select from pgflow.runs for update")
        later = core.start()
        assert [task.run_id for task in core.claim(2).tasks] == [later]
        assert core.run(run).status == "started"
    core.claim()
    assert core.run(run).status == "failed"


def test_nobody_sees_a_run_before_its_start_is_committed(two):
    starter, core = two
    core.flow("a")
    with starter.db.transaction():
        run = starter.start()
        assert (core.claim().tasks, core.claim().next_due) == ([], None)
    assert [task.run_id for task in core.claim().tasks] == [run]


def test_a_completion_does_wait_for_its_run(two):
    holder, core = two
    core.flow("a")
    run = core.start()
    with holder.db.transaction():
        holder.rows("select from pgflow.runs for update")
        with pytest.raises(errors.LockNotAvailable):
            core.complete(run, "a")


# A late answer and whoever else wants its task


def test_a_claim_that_commits_first_refuses_the_attempt_before_it(three):
    claimer, completer, observer = three
    run = lapsed(claimer)
    claimer.db.execute("begin")
    assert claimer.claim().tasks[0].attempts_count == 2
    with meanwhile(completer.settle, Outcome(run, "a", attempt=1)) as completion:
        until_waiting(observer, completer)
        claimer.db.execute("commit")
    assert completion.result().refused == [1]
    assert observer.task(run, "a").status == "queued"


def test_a_claim_that_is_rolled_back_leaves_the_task_to_the_attempt_before_it(three):
    claimer, completer, observer = three
    run = lapsed(claimer)
    claimer.db.execute("begin")
    claimer.claim()
    with meanwhile(completer.settle, Outcome(run, "a", attempt=1)) as completion:
        until_waiting(observer, completer)
        claimer.db.execute("rollback")
    assert completion.result().refused is None
    assert observer.run(run).status == "completed"


def test_a_failure_that_waited_for_a_claim_is_refused(three):
    claimer, completer, observer = three
    run = lapsed(claimer)
    claimer.db.execute("begin")
    claimer.claim()
    with meanwhile(completer.settle, Outcome(run, "a", attempt=1, error="late")) as failure:
        until_waiting(observer, completer)
        claimer.db.execute("commit")
    assert failure.result().refused == [1]
    assert observer.task(run, "a").error_message is None


def test_the_seeds_failure_that_waited_for_a_claim_counts_the_attempts_of_that_claim(three):
    claimer, completer, observer = three
    run = lapsed(claimer, attempts=2)
    claimer.db.execute("begin")
    claimer.claim()
    with meanwhile(completer.fail, run, "a") as failure:
        until_waiting(observer, completer)
        claimer.db.execute("commit")
    assert failure.result().status == "failed"
    assert observer.run(run).status == "failed"


def test_a_completion_under_way_keeps_its_task_from_being_claimed(two):
    completer, claimer = two
    run = lapsed(completer)
    with completer.db.transaction():
        assert completer.settle(Outcome(run, "a")).refused is None
        assert claimer.claim().tasks == []
    assert claimer.claim().tasks == []
    assert claimer.run(run).status == "completed"


def test_a_completion_under_way_keeps_its_task_from_failing_as_lapsed(two):
    completer, claimer = two
    run = lapsed(completer, attempts=1)
    with completer.db.transaction():
        completer.settle(Outcome(run, "a"))
        claimer.claim()
    claimer.claim()
    assert claimer.run(run).status == "completed"


def test_a_completion_that_comes_while_its_task_fails_as_lapsed_is_refused(three):
    claimer, completer, observer = three
    run = lapsed(claimer, attempts=1)
    claimer.db.execute("begin")
    claimer.claim()
    with meanwhile(completer.settle, Outcome(run, "a")) as completion:
        until_waiting(observer, completer)
        claimer.db.execute("commit")
    assert completion.result().refused == [1]
    assert observer.run(run).status == "failed"


# Two tasks of one run


def test_a_join_starts_with_the_second_of_two_completions_that_overlap(three):
    one, other, observer = three
    one.flow("a", "b", "c<a,b")
    run = one.start()
    one.db.execute("begin")
    one.complete(run, "a")
    with meanwhile(other.complete, run, "b") as second:
        until_waiting(observer, other)
        one.db.execute("commit")
    second.result()
    assert observer.tasks(run) == {"a": "completed", "b": "completed", "c": "queued"}


def test_a_failure_cancels_what_a_completion_that_overlaps_has_started(three):
    completer, failer, observer = three
    completer.flow("a", "b", "c<a", max_attempts=0)
    run = completer.start()
    completer.db.execute("begin")
    completer.complete(run, "a")
    with meanwhile(failer.fail, run, "b") as failure:
        until_waiting(observer, failer)
        completer.db.execute("commit")
    failure.result()
    assert observer.tasks(run) == {"a": "completed", "b": "failed", "c": "cancelled"}
    assert observer.queued() == []


def test_a_completion_that_overlaps_a_failure_of_its_run_starts_nothing(three):
    failer, completer, observer = three
    failer.flow("a", "b", "c<a", max_attempts=0)
    run = failer.start()
    failer.db.execute("begin")
    failer.fail(run, "b")
    with meanwhile(completer.complete, run, "a") as completion:
        until_waiting(observer, completer)
        failer.db.execute("commit")
    assert completion.result().status == "cancelled"
    assert observer.tasks(run) == {"a": "cancelled", "b": "failed"}
    assert observer.queued() == []


# Two sessions define


def test_two_sessions_may_create_a_flow_at_once(three):
    one, other, observer = three
    one.db.execute("begin")
    one.flow()
    with meanwhile(other.flow) as second:
        until_waiting(observer, other)
        one.db.execute("commit")
    second.result()
    assert observer.value("select count(*) from pgflow.flows") == 1


def test_two_sessions_may_define_a_flow_at_once(three):
    definition = """
      {"flow_slug": "f", "max_attempts": 3, "base_delay": 5, "timeout": 60, "blob_threshold": 1,
       "steps": [{"step_slug": "a"}, {"step_slug": "b", "deps_slugs": ["a"]}]}
    """
    define = "select pgflow.define_flow(%s)"
    one, other, observer = three
    assert at_once(
        lambda: one.value(define, definition), lambda: other.value(define, definition)
    ) == [[], []]
    assert observer.value("select count(*) from pgflow.steps") == 2


def test_steps_added_by_two_sessions_are_numbered_in_their_order(three):
    one, other, observer = three
    one.flow()
    one.db.execute("begin")
    one.step("a")
    with meanwhile(other.step, "b") as second:
        until_waiting(observer, other)
        one.db.execute("commit")
    second.result()
    steps = observer.rows("select step_slug, step_index from pgflow.steps order by 2")
    assert [tuple(step) for step in steps] == [("a", 0), ("b", 1)]


def test_a_run_that_starts_while_a_step_is_added_has_it_wholly_or_not_at_all(database):
    with sessions(database, 2) as (starter, definer):
        definer.flow("s0")

        def add() -> None:
            for n in range(1, 30):
                definer.step(f"s{n}")

        at_once(add, lambda: [starter.start_many(1) for _ in range(60)])
        torn = definer.rows(
            """
            select from pgflow.runs r where remaining_steps <>
              (select count(*) from pgflow.step_states s where s.run_id = r.run_id)
            """
        )
    assert torn == []
