"""What a worker has at hand, and what became of the rest."""

from uuid import uuid4

import trio

from pgflow_events.queries import ClaimedTask, Outcome
from pgflow_events.tally import Tally


def task(step: str, attempt: int = 1) -> ClaimedTask:
    return ClaimedTask("flow", uuid4(), step, 0, attempt, 60, "{}", {})


def test_a_task_is_at_hand_from_its_claim_to_its_outcome():
    tally, first, second = Tally(), task("a"), task("b")
    tally.take([first, second])
    assert (tally.running, tally.at_hand) == (2, [first, second])
    tally.put_down(first)
    assert (tally.running, tally.at_hand) == (1, [second])


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
