"""Tasks that a worker claims ahead of brief handlers, when the next handlers are slow."""

import pytest
import trio

from pgflow_events import Flow, Settings, Worker

from ...parts.observing import rows, until

BRIEF, SLOW = 600, 40
STATES = """
select count(*) filter (where status = 'queued' and attempts_count > 0) as running,
  count(*) filter (where status = 'queued' and attempts_count = 0) as waiting,
  coalesce(max(attempts_count) filter (where status = 'completed'), 0) as attempts
from pgflow.step_tasks
"""


class Turning:
    """A flow whose tasks are brief at first, and then wait until they are let go."""

    def __init__(self) -> None:
        self.slow, self.let_go = 0, trio.Event()
        self.flow = Flow("turning", timeout=1000)
        self.flow.step(self.flow.input, slug="step")(self._step)

    async def _step(self, number):
        if number >= BRIEF:
            self.slow += 1
            await self.let_go.wait()

    async def slow_are(self, count: int) -> bool:
        return self.slow == count


@pytest.fixture
async def turning(client, database):
    """The flow, and a worker that has claimed ahead of brief tasks and given back what waited."""
    turning = Turning()
    worker = Worker([turning.flow], database, settings=Settings(slots=2))
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await client.start_many(turning.flow, range(BRIEF + SLOW))

        async def has_given_back() -> bool:
            ledger = worker._ledger
            return ledger.released > 0 and turning.slow == len(ledger.open) == 2

        await until(has_given_back)
        yield turning, worker
        turning.let_go.set()
        worker.stop()


async def test_another_worker_gets_what_waited_behind_slow_tasks(turning, database):
    turning, _ = turning
    second = Worker([turning.flow], database)
    async with trio.open_nursery() as nursery:
        await nursery.start(second.run)
        await until(lambda: turning.slow_are(SLOW))
        turning.let_go.set()

        async def are_done() -> bool:
            return await rows(database, STATES) == [(0, 0, 1)]  # each was tried once

        await until(are_done)
        second.stop()


async def test_a_worker_that_stops_leaves_what_waited_as_if_it_had_never_claimed_it(
    turning, database
):
    _, worker = turning
    worker.stop()
    ((running, waiting, attempts),) = await rows(database, STATES)
    assert (running, attempts) == (2, 1)
    assert waiting == BRIEF + SLOW - 2 - worker._ledger.completed
