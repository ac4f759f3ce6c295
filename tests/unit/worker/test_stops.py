"""When a worker asks which of its tasks are its own no more."""

from typing import Any
from uuid import UUID

import pytest
import trio

from pgflow_events.core.tasks import ClaimedTask
from pgflow_events.worker.ledger import Ledger
from pgflow_events.worker.stops import GAP, NET, Stops

TASK = ClaimedTask("flow", UUID(int=1), "step", 0, 1, 60, '{"run": 1}', {})


class Asked:
    """Stops without a database, and what they have asked and done."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.asked: list[float] = []
        self.stopped: list[tuple[ClaimedTask, str]] = []
        self.lost: list[tuple[ClaimedTask, str]] = []
        calls: Any = self
        self.stops = Stops(UUID(int=2), calls, self.ledger, self._stop)

    async def make(self, *_: object) -> list[tuple[ClaimedTask, str]]:
        self.asked.append(trio.current_time())
        return self.lost

    def _stop(self, task: ClaimedTask, why: str) -> None:
        self.stopped.append((task, why))


@pytest.fixture
async def rig(nursery: trio.Nursery) -> Asked:
    rig = Asked()
    nursery.start_soon(rig.stops.run)
    await trio.sleep(1)
    return rig


async def test_without_tasks_at_hand_it_asks_nothing(rig, autojump_clock):
    rig.stops.look()
    await trio.sleep(10 * NET)
    assert rig.asked == []


async def test_it_asks_when_told_to_and_each_minute_and_stops_what_is_lost(rig, autojump_clock):
    rig.ledger.enter([TASK])
    rig.stops.look()
    await trio.sleep(1)
    assert len(rig.asked) == 1
    rig.lost = [(TASK, "run failed")]
    await trio.sleep(NET)
    assert len(rig.asked) == 2
    assert rig.stopped == [(TASK, "run failed")]


async def test_however_often_it_is_told_it_asks_with_a_pause(rig, autojump_clock):
    rig.ledger.enter([TASK])
    for _ in range(1000):
        rig.stops.look()
        await trio.sleep(GAP / 50)
    assert 15 < len(rig.asked) < 25


async def test_an_attempt_that_is_over_is_not_stopped():
    ledger = Ledger()
    ledger.enter([TASK])
    assert ledger.stop(TASK, "run failed")
    assert not ledger.stop(TASK, "run cancelled")
    assert ledger.stops == {id(TASK): "run failed"}
    ledger.close(TASK)
    ledger.drop(TASK)
    assert (ledger.stops, ledger.at_hand, str(ledger)) == ({}, [], "1 stopped")
    assert not ledger.stop(TASK, "run failed")
