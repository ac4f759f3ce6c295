"""The dispatcher, with functions in the place of the database."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from pgflow_events.core.tasks import Claim, ClaimedTask
from pgflow_events.worker.claiming.dispatcher import Dispatcher
from pgflow_events.worker.claiming.turns import REST, Turns

NOTHING = Claim([], next_due=None, refused=[], owed_tasks=[], owed_runs=[])
LONG = 1e6  # seconds: whoever still sleeps then would sleep for ever


BUDGET = 100


def task(input_bytes: int = 0) -> ClaimedTask:
    return ClaimedTask("flow", UUID(int=0), "step", 0, 1, 60, "{}", {}, input_bytes)


def some(tasks: int, next_due: float | None = None) -> Claim:
    return replace(NOTHING, tasks=[task() for _ in range(tasks)], next_due=next_due)


class Database:
    """Answers claims from a list, then with nothing, and notes when it was asked for how many."""

    def __init__(self, *answers: Claim | Exception) -> None:
        self._answers: Iterator[Claim | Exception] = iter(answers)
        self.asked: list[tuple[float, int]] = []
        self.open = trio.Event()
        self.open.set()

    async def claim(self, slug: str, qty: int, max_bytes: int) -> Claim:
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


def dispatcher_on(claim: Any, start: Any, slots: int = 4) -> Dispatcher:
    return Dispatcher(Turns(["flow"]), claim, start, slots, BUDGET)


Run = Callable[..., Any]


@pytest.fixture
def run(nursery) -> Run:
    """Starts a dispatcher on these answers; when it returns, the first ones have been given."""

    async def run(*answers: Claim | Exception, slots: int = 4) -> tuple[Dispatcher, Database, list]:
        database, started = Database(*answers), []
        dispatcher = dispatcher_on(database.claim, started.extend, slots)
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


async def test_a_claim_that_was_due_and_took_all_it_saw_is_followed_by_one_that_looks(
    run, autojump_clock
):
    """Otherwise a message that is due a moment later would wait for half a second."""
    took = some(1, next_due=0.5)
    _, database, _ = await run(some(0, next_due=7), took, took, took, some(0, next_due=0.1))
    await trio.sleep(LONG)
    assert database.times == [0, 7, 7, 7, 7, 7.1]


async def test_a_claim_that_was_woken_and_took_all_it_saw_looks_half_a_second_later(
    run, autojump_clock
):
    _, database, _ = await run(some(1, next_due=0.5), some(0, next_due=0.1))
    await trio.sleep(LONG)
    assert database.times == [0, 0.5, 0.6]


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
    with dispatcher.reserve(slug="flow") as slow:
        with dispatcher.reserve(slug="flow") as quick:
            quick.claim = some(0, next_due=30)
        slow.claim = NOTHING
    await trio.sleep(LONG)
    assert database.times == [0, 30]


async def test_slots_of_ended_tasks_are_claimed_for_by_the_call_that_settles_them(
    run, autojump_clock
):
    dispatcher, database, started = await run(some(4))
    dispatcher.free(started[:2])
    with dispatcher.reserve() as reserved:
        assert reserved.qty == 2
        reserved.claim = some(2)
    assert len(started) == 6
    await trio.sleep(LONG)
    assert database.asked == [(0, 4)]


async def test_a_call_that_claimed_less_than_there_was_is_followed_by_a_claim(run, autojump_clock):
    dispatcher, database, started = await run(some(4, next_due=0), some(1))
    dispatcher.free(started[:2])
    with dispatcher.reserve() as reserved:
        reserved.claim = some(1, next_due=0)
    await trio.sleep(LONG)
    assert database.asked == [(0, 4), (0, 1)]
    assert len(started) == 6


async def test_a_wake_up_during_a_call_that_holds_all_slots_is_not_lost(run, autojump_clock):
    dispatcher, database, started = await run(NOTHING, some(1))
    with dispatcher.reserve(4, "flow") as reserved:  # a commit that has looked at the queue already
        await trio.sleep(1)
        dispatcher.wake()
        await trio.sleep(1)
        reserved.claim = NOTHING
    await trio.sleep(LONG)
    assert database.asked == [(0, 4), (2, 4)]
    assert len(started) == 1


async def test_after_a_call_that_failed_it_claims_for_the_slots_it_had(run, autojump_clock):
    dispatcher, database, started = await run(some(4, next_due=0), some(1))
    dispatcher.free(started[:1])
    with pytest.raises(ZeroDivisionError), dispatcher.reserve():
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
    dispatcher = dispatcher_on(Database().claim, lambda tasks: None)
    async with trio.open_nursery() as inner:
        inner.start_soon(dispatcher.run)
        await trio.sleep(1)
        dispatcher.close()


async def test_closed_before_it_runs_it_claims_nothing(autojump_clock):
    database = Database()
    dispatcher = dispatcher_on(database.claim, lambda tasks: None, 4)
    dispatcher.close()
    await dispatcher.run()
    assert database.asked == []


async def test_closed_during_a_call_it_starts_what_that_claimed_and_then_returns(autojump_clock):
    started = []
    dispatcher = dispatcher_on(Database().claim, started.extend, 4)
    ended = []

    async def run():
        await dispatcher.run()
        ended.append(trio.current_time())

    async with trio.open_nursery() as inner:
        inner.start_soon(run)
        await trio.sleep(1)
        with dispatcher.reserve() as reserved:
            dispatcher.close()
            await trio.sleep(1)
            assert not ended
            reserved.claim = some(2)
    assert ended == [2]
    assert len(started) == 2


async def test_once_closed_calls_claim_nothing(run, autojump_clock):
    dispatcher, _, _ = await run()
    dispatcher.close()
    with dispatcher.reserve() as reserved:
        assert reserved.qty == 0


async def test_closed_while_a_claim_is_not_answered_it_gives_it_up_after_five_seconds(
    autojump_clock,
):
    database = Database()
    database.open = trio.Event()
    dispatcher = dispatcher_on(database.claim, lambda tasks: None)
    async with trio.open_nursery() as inner:
        inner.start_soon(dispatcher.run)
        await trio.sleep(60)
        dispatcher.close()
    assert trio.current_time() == pytest.approx(65, abs=REST)


async def test_an_error_of_a_claim_comes_out(autojump_clock):
    dispatcher = dispatcher_on(Database(ZeroDivisionError()).claim, lambda tasks: None, 4)
    with pytest.raises(ZeroDivisionError):
        await dispatcher.run()


# Bytes: what handlers load counts against a budget.


class Queue:
    """Answers claims as the database does, for tasks of some bytes each; in order of arrival."""

    def __init__(self, *sizes: int) -> None:
        self.visible = [task(size) for size in sizes]
        self.asked: list[tuple[int, int]] = []

    def answer(self, qty: int, max_bytes: int) -> Claim:
        self.asked.append((qty, max_bytes))
        claimed, total = [], 0
        for each in self.visible[:qty]:
            total += each.input_bytes
            if not each.input_bytes or total <= max_bytes:
                claimed.append(each)
        self.visible = [each for each in self.visible if all(each is not took for took in claimed)]
        if claimed and len(claimed) == qty:
            return replace(NOTHING, tasks=claimed, next_due=0)  # it does not look at what is left
        if not self.visible:
            return replace(NOTHING, tasks=claimed)
        left = self.visible[0].input_bytes
        return replace(NOTHING, tasks=claimed, next_due=None if left else 0, next_bytes=left)

    async def claim(self, slug: str, qty: int, max_bytes: int) -> Claim:
        await trio.lowlevel.checkpoint()
        return self.answer(qty, max_bytes)


class Engine:
    """A dispatcher that runs on a queue, and what it has started."""

    def __init__(self, nursery: trio.Nursery, *sizes: int, slots: int = 4) -> None:
        self.queue = Queue(*sizes)
        self.running: list[ClaimedTask] = []
        self.dispatcher = dispatcher_on(self.queue.claim, self.running.extend, slots)
        nursery.start_soon(self.dispatcher.run)

    @property
    def sizes(self) -> list[int]:
        return [each.input_bytes for each in self.running]

    def end(self, size: int) -> None:
        """End a task of this size, as the completer does."""
        ended = self.running.pop(self.sizes.index(size))
        self.dispatcher.free([ended])
        with self.dispatcher.reserve() as reserved:
            reserved.claim = self.queue.answer(reserved.qty, reserved.max_bytes)

    async def sizes_at_rest(self) -> list[int]:
        await trio.sleep(1)
        return self.sizes


async def test_tasks_that_would_load_more_than_is_free_wait(nursery, autojump_clock):
    engine = Engine(nursery, 60, 30, 20, 0)
    assert await engine.sizes_at_rest() == [60, 30, 0]
    engine.end(30)
    assert await engine.sizes_at_rest() == [60, 0, 20]


async def test_a_task_over_the_budget_runs_once_no_other_that_loads_does(nursery, autojump_clock):
    engine = Engine(nursery, 50, 300, 10, slots=9)
    assert await engine.sizes_at_rest() == [50]
    engine.end(50)
    assert await engine.sizes_at_rest() == [300]
    engine.end(300)
    assert await engine.sizes_at_rest() == [10]


async def test_a_task_over_the_budget_runs_at_once_if_no_other_does(nursery, autojump_clock):
    engine = Engine(nursery, 300)
    assert await engine.sizes_at_rest() == [300]


async def test_tasks_that_load_nothing_run_beside_one_over_the_budget(nursery, autojump_clock):
    engine = Engine(nursery, 0, 300, 0, 0, 10)
    assert sorted(await engine.sizes_at_rest()) == [0, 0, 0, 300]


async def test_while_a_task_waits_for_bytes_it_does_not_claim(nursery, autojump_clock):
    engine = Engine(nursery, 90, 20)
    await trio.sleep(LONG)
    assert len(engine.queue.asked) <= 3
    assert engine.sizes == [90]


async def test_small_tasks_cannot_use_what_is_meant_for_a_large_one(nursery, autojump_clock):
    engine = Engine(nursery, 90, 300, slots=9)
    await trio.sleep(1)
    engine.queue.visible = [task(60) for _ in range(5)]  # another worker has taken the large one
    engine.end(90)
    assert await engine.sizes_at_rest() == [60]


async def test_two_calls_at_once_are_never_promised_more_than_is_free(autojump_clock):
    dispatcher = dispatcher_on(Database().claim, lambda tasks: None, 4)
    with dispatcher.reserve() as first, dispatcher.reserve() as second:
        assert (first.max_bytes, second.max_bytes) == (BUDGET, 0)
        dispatcher.free([task(0)])
        with dispatcher.reserve() as third:
            assert third.max_bytes == 0
    with dispatcher.reserve() as after:
        assert after.max_bytes == BUDGET


BESIDE_A_LARGE_ONE = replace(NOTHING, tasks=[task(50)], next_bytes=300)


def bytes_left(size: int) -> Claim:
    return replace(NOTHING, next_due=None if size else 0, next_bytes=size)


async def test_an_answer_that_is_older_does_not_keep_what_loads_nothing_waiting(
    run, autojump_clock
):
    dispatcher, database, _ = await run(BESIDE_A_LARGE_ONE)
    asked = len(database.asked)
    with dispatcher.reserve(slug="flow") as slow:
        with dispatcher.reserve(slug="flow") as quick:
            quick.claim = bytes_left(0)
        slow.claim = NOTHING
    await trio.sleep(1)
    assert len(database.asked) > asked


async def test_an_answer_that_is_older_does_not_hide_what_fits_once_both_are_in(
    run, autojump_clock
):
    dispatcher, database, _ = await run(BESIDE_A_LARGE_ONE)
    asked = len(database.asked)
    with dispatcher.reserve(slug="flow") as slow:
        with dispatcher.reserve(slug="flow") as quick:
            quick.claim = bytes_left(40)
        slow.claim = bytes_left(300)
    await trio.sleep(1)
    assert len(database.asked) > asked


tasks_to_come = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 10, 50, 60, BUDGET, BUDGET + 1, 300]),  # bytes
        st.integers(0, 20),  # seconds until it comes
        st.integers(0, 20),  # seconds that it takes
        st.booleans(),  # whether another worker takes it soon, if it can
    ),
    max_size=12,
)
delays = st.lists(st.integers(0, 3), min_size=1, max_size=20)  # seconds that answers take


@given(tasks_to_come, delays, delays, st.integers(1, 4))
def test_whatever_comes_it_keeps_to_its_budget_and_leaves_nothing_behind(
    come, looks, answers, slots
):
    """Each call looks at the queue some time after it began, and answers some time after that."""
    queue, running = Queue(), []
    durations: dict[int, int] = {}
    before, after = itertools.cycle(looks), itertools.cycle(answers)

    async def claim(slug: str | None, qty: int, max_bytes: int) -> Claim:
        await trio.sleep(next(before))
        claim = queue.answer(qty, max_bytes)
        await trio.sleep(next(after))
        return claim

    async def execute(each: ClaimedTask) -> None:
        await trio.sleep(durations[id(each)])
        running.remove(each)
        dispatcher.free([each])
        with dispatcher.reserve() as reserved:
            reserved.claim = await claim(reserved.slug, reserved.qty, reserved.max_bytes)

    def start(tasks: list[ClaimedTask]) -> None:
        running.extend(tasks)
        loaded = [each.input_bytes for each in running if each.input_bytes]
        assert sum(loaded) <= BUDGET or len(loaded) == 1
        assert len(running) <= slots
        for each in tasks:
            nursery.start_soon(execute, each)

    async def arrive(size: int, at: int, seconds: int, is_stolen: bool) -> None:
        await trio.sleep(at)
        arrived = ClaimedTask("flow", uuid4(), "step", 0, 1, 60, "{}", {}, size)
        durations[id(arrived)] = seconds
        queue.visible.append(arrived)
        dispatcher.wake()
        await trio.sleep(0.5)
        if is_stolen and arrived in queue.visible:
            queue.visible.remove(arrived)

    dispatcher = dispatcher_on(claim, start, slots)

    async def main() -> None:
        nonlocal nursery
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dispatcher.run)
            for one in come:
                nursery.start_soon(arrive, *one)
            await trio.sleep(LONG)
            assert queue.visible == running == []
            assert len(queue.asked) < 100
            nursery.cancel_scope.cancel()

    nursery: trio.Nursery
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_tasks_claimed_ahead_take_slots_until_they_have_ended(nursery, autojump_clock):
    ahead, database, started = 6, Database(some(4), some(6), some(1)), []
    dispatcher = Dispatcher(
        Turns(["flow"]), database.claim, started.extend, 4, BUDGET, ahead=lambda: ahead
    )
    nursery.start_soon(dispatcher.run)
    await trio.testing.wait_all_tasks_blocked()
    assert [qty for _, qty in database.asked] == [10]
    dispatcher.wake()
    await trio.testing.wait_all_tasks_blocked()
    assert [qty for _, qty in database.asked] == [10, 6]
    ahead = 0  # the handlers turn out to be slow: 10 tasks are at hand, for 4 slots
    dispatcher.free(started[:6])
    dispatcher.wake()
    await trio.testing.wait_all_tasks_blocked()
    with dispatcher.reserve(own=6) as reserved:
        assert reserved.qty == 0
    assert len(database.asked) == 2
    dispatcher.free(started[6:7])
    dispatcher.wake()
    await trio.testing.wait_all_tasks_blocked()
    assert [qty for _, qty in database.asked] == [10, 6, 1]
