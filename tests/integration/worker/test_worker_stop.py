"""How a worker ends: told to stop, told twice, or cancelled."""

import signal

import pytest
import trio
from psycopg.conninfo import make_conninfo

from pgflow_events import Flow, Settings, Worker
from pgflow_events.core import tasks as queries

from ...parts.observing import rows, until

SESSIONS = "select pid from pg_stat_activity where application_name = 'the_worker'"


class Gate:
    """A flow of two steps; the first one waits for the gate to be opened."""

    def __init__(self) -> None:
        self.flow = Flow("flow", base_delay=0)
        self.running, self.open = trio.Event(), trio.Event()
        self.flow.step(self.flow.context, slug="first")(self._first)
        self.flow.step(self.flow.context, self.flow.steps["first"], slug="second")(self._second)

    async def _first(self, context):
        self.running.set()
        await self.open.wait()
        return context.attempt

    async def _second(self, context, first):
        return first


async def test_stopped_it_finishes_what_runs_and_leaves_the_rest_to_the_next(
    client, work, database
):
    gate = Gate()
    worker = Worker([gate.flow], database, settings=Settings(slots=2))
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        runs = await client.start_many(gate.flow, [None] * 5)
        await gate.running.wait()
        worker.stop()
        gate.open.set()
    tasks = await rows(
        database,
        "select step_slug, status, attempts_count from pgflow.step_tasks order by 1, 2, 3",
    )
    assert tasks == 2 * [("first", "completed", 1)] + 3 * [("first", "queued", 0)] + 2 * [
        ("second", "queued", 0)
    ]
    await work(gate.flow)
    for run in runs:
        assert await run.result() == {"second": 1}


async def test_stopped_while_idle_it_ends_at_once(database):
    worker = Worker([Gate().flow], database)
    with trio.fail_after(3):
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            worker.stop()


@pytest.fixture
def held(monkeypatch):
    """Holds the next completion back, once it has been committed, until it is let go."""

    class Held:
        committed, go_on = trio.Event(), trio.Event()

    complete = queries.complete_tasks

    async def hold(*args, **options):
        answer = await complete(*args, **options)
        Held.committed.set()
        await Held.go_on.wait()
        return answer

    monkeypatch.setattr(queries, "complete_tasks", hold)
    return Held


async def test_stopped_during_a_hand_over_it_runs_what_was_handed_over(client, database, held):
    gate = Gate()
    gate.open.set()
    worker = Worker([gate.flow], database)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        run = await client.start(gate.flow, None)
        await held.committed.wait()
        worker.stop()
        held.go_on.set()
    assert await run.status() == "completed"
    assert worker.handed_over == 1


async def test_a_signal_stops_it(client, database):
    gate = Gate()
    worker = Worker([gate.flow], database)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: worker.run(signals=True, task_status=task_status))
        await client.start(gate.flow, None)
        await gate.running.wait()
        signal.raise_signal(signal.SIGTERM)
        while not worker.is_stopping:
            await trio.lowlevel.checkpoint()
        gate.open.set()
    found = await rows(database, "select status from pgflow.step_tasks order by step_slug")
    assert found == [("completed",), ("queued",)]


async def test_a_second_signal_cancels_what_runs_and_gives_it_back(client, database):
    gate = Gate()
    worker = Worker([gate.flow], database)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: worker.run(signals=True, task_status=task_status))
        await client.start(gate.flow, None)
        await gate.running.wait()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)  # two of a kind may count as one
    found = await rows(database, "select status, attempts_count from pgflow.step_tasks")
    assert found == [("queued", 0)]


async def test_a_second_signal_during_a_hand_over_gives_back_what_was_handed_over(
    client, database, held
):
    gate = Gate()
    gate.open.set()
    worker = Worker([gate.flow], database)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: worker.run(signals=True, task_status=task_status))
        await client.start(gate.flow, None)
        await held.committed.wait()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)  # two of a kind may count as one
        await trio.testing.wait_all_tasks_blocked()
        held.go_on.set()
    found = await rows(
        database, "select status, attempts_count from pgflow.step_tasks order by step_slug"
    )
    assert found == [("completed", 1), ("queued", 0)]


async def test_a_second_signal_gives_up_a_commit_that_is_not_answered(
    client, database, held, monkeypatch
):
    monkeypatch.setattr("pgflow_events.worker.worker.LAST_COMMIT", 0.1)
    gate = Gate()
    gate.open.set()
    worker = Worker([gate.flow], database)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(
                lambda task_status: worker.run(signals=True, task_status=task_status)
            )
            await client.start(gate.flow, None)
            await held.committed.wait()
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)  # two of a kind may count as one


async def test_cancelled_it_leaves_its_tasks_to_their_timeouts_and_no_connection_open(
    client, work, database
):
    gate = Gate()
    worker = Worker(
        [gate.flow],
        make_conninfo(database, application_name="the_worker"),
        settings=Settings(slots=5),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await client.start_many(gate.flow, [None] * 20)
        await gate.running.wait()
        assert await rows(database, SESSIONS)
        nursery.cancel_scope.cancel()
    found = await rows(
        database, "select status, attempts_count, count(*) from pgflow.step_tasks group by 1, 2"
    )
    assert sorted(found) == [("queued", 0, 15), ("queued", 1, 5)]

    async def closed() -> bool:
        return not await rows(database, SESSIONS)

    await until(closed)
