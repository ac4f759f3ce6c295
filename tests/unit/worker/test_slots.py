"""How many handlers run, and how many tasks are claimed ahead of brief ones."""

import pytest
import trio
import trio.testing

from pgflow_events.worker.claiming.slots import MOST, PATIENCE, REST, Slots

SOME = 300  # attempts: enough for the mean to be theirs


class Task:
    """Is known by its address alone."""


def after(*seconds: float, slots: int = 50) -> Slots:
    """A slots after attempts that took so long each."""
    slots, now = Slots(slots), trio.current_time()
    for each in seconds:
        slots.leave(Task(), now - each, now)
    return slots


@pytest.mark.parametrize(
    ("slots", "seconds", "ahead"),
    [
        (50, [0.001] * SOME, MOST - 50),
        (50, [0.015] * SOME, 66),  # 50 of them end in 15 ms: the last of 66 begins after 20 ms
        (1, [0.001] * SOME, 20),
        (1, [0.019] * SOME, 1),
        (50, [0.1] * SOME, 0),
        (50, [0.001] * 20, 0),  # too few to know
        (50, [0.001] * SOME + [10.0], 0),  # one is slow: the next may be
        (50, [0.001] * SOME + [10.0] + [0.001] * SOME, MOST - 50),
        (200, [0.001] * SOME, 0),
        (50, [], 0),
    ],
)
async def test_tasks_are_claimed_ahead_of_brief_handlers_alone(
    autojump_clock, slots, seconds, ahead
):
    assert after(*seconds, slots=slots).ahead() == pytest.approx(ahead, abs=2)


async def test_nothing_is_claimed_ahead_after_a_rest(autojump_clock):
    slots = after(*[0.001] * SOME)
    await trio.sleep(REST + 0.01)
    assert slots.ahead() == 0


async def test_as_many_enter_as_there_are_slots_and_the_others_as_these_leave(autojump_clock):
    slots, tasks, entered = Slots(2), [Task() for _ in range(6)], []

    async def enter(batch):
        for task in batch:
            assert await slots.enter_by(trio.current_time() + PATIENCE, task)
            entered.append(task)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(enter, tasks[:2])
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(enter, tasks[2:4])
        nursery.start_soon(enter, tasks[4:])
        await trio.testing.wait_all_tasks_blocked()
        assert entered == tasks[:2]
        for task in tasks[:2]:
            slots.leave(task, 0, 0)
            slots.leave(task, 0, 0)  # twice is as good as once
        await trio.testing.wait_all_tasks_blocked()
        assert len(entered) == 4
        for task in list(entered):  # noqa: PERF101 - it grows
            slots.leave(task, 0, 0)
    assert set(entered) == set(tasks)


async def test_a_task_that_finds_no_slot_free_in_time_does_not_enter(autojump_clock):
    slots, inside = Slots(1), Task()
    assert slots.enter(inside)
    assert not await slots.enter_by(trio.current_time() + 1, Task())
    assert trio.current_time() == 1
    slots.leave(inside, 0, 1)
    assert await slots.enter_by(0, Task())
