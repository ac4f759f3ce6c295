"""Every task that a worker has at hand, and what became of the rest."""

from uuid import UUID, uuid4

import pytest
import trio

from pgflow_events.core.tasks import ClaimedTask, Outcome
from pgflow_events.worker.ledger import Ledger


def task(step: str, attempt: int = 1) -> ClaimedTask:
    return ClaimedTask("flow", uuid4(), step, 0, attempt, 60, "{}", {})


async def test_a_task_is_at_hand_from_its_claim_until_its_outcome_is_committed():
    ledger, first, second = Ledger(), task("a"), task("b")
    ledger.enter([first, second])
    assert (len(ledger.open), ledger.at_hand) == (2, [first, second])
    assert ledger.close(first) is not None
    assert (len(ledger.open), ledger.uncommitted, ledger.at_hand) == (1, 1, [first, second])
    ledger.count([Outcome(first, None)], refused=[])
    assert (len(ledger.open), ledger.at_hand) == (1, [second])


async def test_an_outcome_that_was_refused_is_at_hand_no_longer():
    ledger, refused = Ledger(), task("a")
    ledger.enter([refused])
    ledger.count([Outcome(refused, None)], refused=[0])
    assert ledger.at_hand == []


async def test_what_was_given_back_is_at_hand_no_longer_and_counts_if_it_was_released():
    ledger, settled, released = Ledger(), task("a"), task("b")
    ledger.enter([settled, released])
    ledger.give_back([settled, released], 1)
    assert (ledger.at_hand, str(ledger)) == ([], "1 given back")


async def test_outcomes_count_once_they_are_committed_and_those_refused_do_not():
    ledger = Ledger()
    outcomes = [
        Outcome(task(step), None, error)
        for step, error in zip("abc", (None, "x", None), strict=True)
    ]
    ledger.count(outcomes, refused=[2])
    assert (ledger.completed, ledger.failed) == (1, 1)
    assert str(ledger) == "1 completed, 1 failed"


def test_of_nothing_it_says_nothing():
    assert str(Ledger()) == ""


async def test_who_waits_for_a_change_is_told_of_it(nursery):
    ledger, told = Ledger(), trio.Event()

    async def wait() -> None:
        await ledger.change()
        told.set()

    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    assert not told.is_set()
    ledger.enter([task("a")])
    await told.wait()


async def test_an_attempt_has_one_outcome(autojump_clock):
    ledger, late = Ledger(), task("a")
    ledger.enter([late])
    await trio.sleep(1)
    assert ledger.close(late) == trio.current_time() - 1
    assert ledger.close(late) is None


@pytest.mark.parametrize(
    ("index", "loaded", "refs", "name"),
    [
        (0, '{"run": "links"}', {"links": "1"}, "flow.page"),
        (0, '{"run": 1, "links.each": "a"}', {}, "flow.page[0]"),
        (0, "{}", {"links.each": "1"}, "flow.page[0]"),
        (7, "{}", {"links.each": "1"}, "flow.page[7]"),
    ],
)
def test_the_task_of_a_map_is_named_with_its_index(index, loaded, refs, name):
    task = ClaimedTask("flow", UUID(int=1), "page", index, 2, 60, loaded, refs)
    assert str(task) == f"{name} of run {UUID(int=1)}, attempt 2"
