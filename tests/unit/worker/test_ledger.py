"""What a worker has at hand, and what became of the rest."""

from uuid import uuid4

import trio

from pgflow_events.core.tasks import ClaimedTask, Outcome
from pgflow_events.worker.ledger import Tally


def task(step: str, attempt: int = 1) -> ClaimedTask:
    return ClaimedTask("flow", uuid4(), step, 0, attempt, 60, "{}", {})


def test_a_task_is_at_hand_from_its_claim_until_its_outcome_is_committed():
    tally, first, second = Tally(), task("a"), task("b")
    tally.take([first, second])
    assert (tally.running, tally.at_hand) == (2, [first, second])
    tally.put_down()
    assert (tally.running, tally.uncommitted, tally.at_hand) == (1, 1, [first, second])
    tally.count([Outcome(first, None)], refused=[])
    assert (tally.running, tally.at_hand) == (1, [second])


def test_an_outcome_that_was_refused_is_at_hand_no_longer():
    tally, refused = Tally(), task("a")
    tally.take([refused])
    tally.count([Outcome(refused, None)], refused=[0])
    assert tally.at_hand == []


def test_what_was_given_back_is_at_hand_no_longer_and_counts_if_it_was_released():
    tally, settled, released = Tally(), task("a"), task("b")
    tally.take([settled, released])
    tally.give_back([settled, released], 1)
    assert (tally.at_hand, str(tally)) == ([], "1 given back")


def test_outcomes_count_once_they_are_committed_and_those_refused_do_not():
    tally = Tally()
    outcomes = [
        Outcome(task(step), None, error)
        for step, error in zip("abc", (None, "x", None), strict=True)
    ]
    tally.count(outcomes, refused=[2])
    assert (tally.completed, tally.failed) == (1, 1)
    assert str(tally) == "1 completed, 1 failed"


def test_of_nothing_it_says_nothing():
    assert str(Tally()) == ""


async def test_who_waits_for_a_change_is_told_of_it(nursery):
    tally, told = Tally(), trio.Event()

    async def wait() -> None:
        await tally.change()
        told.set()

    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    assert not told.is_set()
    tally.take([task("a")])
    await told.wait()
