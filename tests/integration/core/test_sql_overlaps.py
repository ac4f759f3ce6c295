"""Two sessions that want the same task, or two tasks of the same run, at the same time."""

from collections.abc import Iterator

import pytest

from ...parts.models.core import Core, Outcome
from ...parts.models.sessions import lapsed, meanwhile, sessions, until_waiting


@pytest.fixture
def three(database: str) -> Iterator[list[Core]]:
    """Two sessions and one that looks on."""
    with sessions(database, 3) as opened:
        yield opened


@pytest.fixture
def two(three: list[Core]) -> list[Core]:
    """Two sessions; a statement of the second one that waits for a lock fails."""
    three[1].db.execute("set lock_timeout = '50ms'")
    return three[:2]


# An answer that comes late, and whoever else wants its task


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


def test_the_seeds_completion_that_waited_for_a_claim_is_accepted(three):
    claimer, completer, observer = three
    run = lapsed(claimer)
    claimer.db.execute("begin")
    claimer.claim()
    with meanwhile(completer.complete, run, "a", "late") as completion:
        until_waiting(observer, completer)
        claimer.db.execute("commit")
    assert (completion.result().status, completion.result().attempts_count) == ("completed", 2)
    assert observer.run(run).output == {"a": "late"}
    assert claimer.settle(Outcome(run, "a", attempt=2)).refused == []


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
