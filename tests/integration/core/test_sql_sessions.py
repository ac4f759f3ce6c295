"""Two sessions of the SQL core: what one sees, and waits for, while the other is at work."""

import time
from collections.abc import Iterator

import pytest
from psycopg import errors

from ...parts.models.core import Core
from ...parts.models.sessions import at_once, lapsed, meanwhile, sessions, until_waiting


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
