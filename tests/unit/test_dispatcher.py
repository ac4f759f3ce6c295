"""The dispatcher, with functions in the place of the database."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import trio

from pgflow_events.dispatcher import REST, Dispatcher
from pgflow_events.queries import Claim

NOTHING = Claim([], next_due=None, refused=[], owed_tasks=[], owed_runs=[])
LONG = 1e6  # seconds: whoever still sleeps then would sleep for ever


def some(tasks: int, next_due: float | None = None) -> Claim:
    return replace(NOTHING, tasks=[object()] * tasks, next_due=next_due)


class Database:
    """Answers claims from a list, then with nothing, and notes when it was asked for how many."""

    def __init__(self, *answers: Claim | Exception) -> None:
        self._answers: Iterator[Claim | Exception] = iter(answers)
        self.asked: list[tuple[float, int]] = []
        self.open = trio.Event()
        self.open.set()

    async def claim(self, qty: int) -> Claim:
        self.asked.append((round(trio.current_time(), 6), qty))
        await self.open.wait()
        await trio.lowlevel.checkpoint()
        answer = next(self._answers, NOTHING)
        if isinstance(answer, Exception):
            raise answer
        assert len(answer.tasks) <= qty
        return answer

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.asked]


Run = Callable[..., Any]


@pytest.fixture
def run(nursery) -> Run:
    """Starts a dispatcher on these answers; when it returns, the first ones have been given."""

    async def run(*answers: Claim | Exception, slots: int = 4) -> tuple[Dispatcher, Database, list]:
        database, started = Database(*answers), []
        dispatcher = Dispatcher(database.claim, started.extend, slots)
        nursery.start_soon(dispatcher.run)
        await trio.testing.wait_all_tasks_blocked()
        return dispatcher, database, started

    return run


async def test_it_claims_at_once_for_all_of_its_slots_and_starts_the_tasks(run, autojump_clock):
    _, database, started = await run(some(4))
    assert database.asked == [(0, 4)]
    assert len(started) == 4


async def test_while_idle_it_never_claims(run, autojump_clock):
    _, database, _ = await run()
    await trio.sleep(LONG)
    assert database.asked == [(0, 4)]


async def test_when_woken_it_claims_for_the_slots_that_are_free(run, autojump_clock):
    dispatcher, database, started = await run(some(3), some(1))
    await trio.sleep(10)
    dispatcher.wake()
    await trio.sleep(LONG)
    assert database.asked == [(0, 4), (10, 1)]
    assert len(started) == 4


async def test_any_number_of_wake_ups_during_a_claim_make_one_more(run, autojump_clock):
    dispatcher, database, _ = await run()
    database.open = trio.Event()
    dispatcher.wake()
    await trio.sleep(10)
    for _ in range(1000):
        dispatcher.wake()
    database.open.set()
    await trio.sleep(LONG)
    assert database.times == [0, REST, 10 + REST]


async def test_a_flood_of_wake_ups_costs_a_claim_each_five_milliseconds(run, autojump_clock):
    dispatcher, database, _ = await run()
    for _ in range(1000):
        dispatcher.wake()
        await trio.sleep(0.0001)
    assert 10 < len(database.asked) <= 0.1 / REST + 1


async def test_with_no_free_slot_it_does_not_claim(run, autojump_clock):
    dispatcher, database, _ = await run(some(4, next_due=0))
    dispatcher.wake()
    await trio.sleep(LONG)
    assert database.asked == [(0, 4)]


async def test_it_claims_when_the_next_message_falls_due_and_not_before(run, autojump_clock):
    _, database, _ = await run(some(0, next_due=7.5), some(1, next_due=2.25), some(0))
    await trio.sleep(LONG)
    assert database.times == [0, 7.5, 9.75]


async def test_what_is_due_already_is_claimed_after_a_rest(run, autojump_clock):
    _, database, started = await run(some(0, next_due=0), some(1))
    await trio.sleep(LONG)
    assert database.times == [0, REST]
    assert len(started) == 1


async def test_a_later_answer_moves_the_timer(run, autojump_clock):
    dispatcher, database, _ = await run(some(0, next_due=100), some(0, next_due=500))
    await trio.sleep(10)
    dispatcher.wake()
    await trio.sleep(LONG)
    assert database.times == [0, 10, 510]


async def test_the_older_of_two_answers_does_not_put_off_what_the_newer_has_seen(
    run, autojump_clock
):
    dispatcher, database, _ = await run()
    with dispatcher.call() as slow:
        with dispatcher.call() as quick:
            quick.claim = some(0, next_due=30)
        slow.claim = NOTHING
    await trio.sleep(LONG)
    assert database.times == [0, 30]


async def test_slots_of_ended_tasks_are_claimed_for_by_the_call_that_settles_them(
    run, autojump_clock
):
    dispatcher, database, started = await run(some(4))
    dispatcher.free(2)
    with dispatcher.call() as call:
        assert call.qty == 2
        call.claim = some(2)
    assert len(started) == 6
    await trio.sleep(LONG)
    assert database.asked == [(0, 4)]


async def test_a_call_that_claimed_less_than_there_was_is_followed_by_a_claim(run, autojump_clock):
    dispatcher, database, started = await run(some(4), some(1))
    dispatcher.free(2)
    with dispatcher.call() as call:
        call.claim = some(1, next_due=0)
    await trio.sleep(LONG)
    assert database.asked == [(0, 4), (0, 1)]
    assert len(started) == 6


async def test_a_wake_up_during_a_call_that_holds_all_slots_is_not_lost(run, autojump_clock):
    dispatcher, database, started = await run(NOTHING, some(1))
    with dispatcher.call() as call:  # a commit, say, that has looked at the queue already
        await trio.sleep(1)
        dispatcher.wake()
        await trio.sleep(1)
        call.claim = NOTHING
    await trio.sleep(LONG)
    assert database.asked == [(0, 4), (2, 4)]
    assert len(started) == 1


async def test_after_a_call_that_failed_it_claims_for_the_slots_it_had(run, autojump_clock):
    dispatcher, database, started = await run(some(4), some(1))
    dispatcher.free(1)
    with pytest.raises(ZeroDivisionError), dispatcher.call():
        raise ZeroDivisionError
    await trio.sleep(LONG)
    assert database.asked == [(0, 4), (0, 1)]
    assert len(started) == 5


async def test_while_notifications_do_not_arrive_it_polls(run, autojump_clock):
    dispatcher, database, _ = await run()
    dispatcher.poll_every(2)
    await trio.sleep(5)
    dispatcher.poll_every(float("inf"))
    await trio.sleep(LONG)
    assert len(database.asked) == 3


async def test_closed_while_idle_it_returns(autojump_clock):
    dispatcher = Dispatcher(Database().claim, lambda tasks: None, 4)
    async with trio.open_nursery() as inner:
        inner.start_soon(dispatcher.run)
        await trio.sleep(1)
        dispatcher.close()


async def test_closed_before_it_runs_it_claims_nothing(autojump_clock):
    database = Database()
    dispatcher = Dispatcher(database.claim, lambda tasks: None, 4)
    dispatcher.close()
    await dispatcher.run()
    assert database.asked == []


async def test_closed_during_a_call_it_starts_what_that_claimed_and_then_returns(autojump_clock):
    started = []
    dispatcher = Dispatcher(Database().claim, started.extend, 4)
    ended = []

    async def run():
        await dispatcher.run()
        ended.append(trio.current_time())

    async with trio.open_nursery() as inner:
        inner.start_soon(run)
        await trio.sleep(1)
        with dispatcher.call() as call:
            dispatcher.close()
            await trio.sleep(1)
            assert not ended
            call.claim = some(2)
    assert ended == [2]
    assert len(started) == 2


async def test_once_closed_calls_claim_nothing(run, autojump_clock):
    dispatcher, _, _ = await run()
    dispatcher.close()
    with dispatcher.call() as call:
        assert call.qty == 0


async def test_closed_while_a_claim_is_not_answered_it_gives_it_up_after_five_seconds(
    autojump_clock,
):
    database = Database()
    database.open = trio.Event()
    dispatcher = Dispatcher(database.claim, lambda tasks: None, 4)
    async with trio.open_nursery() as inner:
        inner.start_soon(dispatcher.run)
        await trio.sleep(60)
        dispatcher.close()
    assert trio.current_time() == pytest.approx(65, abs=REST)


async def test_an_error_of_a_claim_comes_out(autojump_clock):
    dispatcher = Dispatcher(Database(ZeroDivisionError()).claim, lambda tasks: None, 4)
    with pytest.raises(ZeroDivisionError):
        await dispatcher.run()
