"""How fast workers work off waiting runs."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import trio

from pgflow_events.bench import flows, process
from pgflow_events.bench import tables as queries
from pgflow_events.bench.measured import Measured, rate, scaled
from pgflow_events.client.client import connect
from pgflow_events.core.flows import define_flow
from pgflow_events.postgres.connection import Connection
from pgflow_events.service import child
from pgflow_events.settings import Settings

RUNS = 6_000
LOOK = 0.05  # seconds between two looks whether all runs have ended
LOOKED_AT = 200  # runs in one look
MANY_SLOTS = 200
HANDLERS = {"no-op": ("bench_noop", 0.0), "1 ms": ("bench_brief", 0.001)}


async def drain(dsn: str) -> list[Measured]:
    """The runs of one step that worker processes complete in a second.

    The floor is a handwritten query that completes jobs of a plain table and claims the next ones.
    A batch has as many jobs as the worker has slots, and the number of processes is the same. If
    the handler takes a millisecond, each batch waits a millisecond.
    """
    measured = []
    combinations = itertools.product((1, 2), HANDLERS.items(), (Settings().slots, MANY_SLOTS))
    for processes, (name, (slug, pause)), slots in combinations:
        ours = await drained(dsn, slug, scaled(RUNS), processes, slots)
        floor = await by_hand(dsn, scaled(RUNS), processes, slots, pause)
        setting = f"{processes} process{'es' * (processes > 1)}, {name}, {slots} slots"
        measured.append(
            Measured(
                setting=setting,
                unit="runs/s",
                ours=rate(scaled(RUNS), ours),
                floor=rate(scaled(RUNS), floor),
            )
        )
    return measured


@dataclass(frozen=True, slots=True)
class Waiting:
    """Runs that wait for a worker."""

    connection: Connection
    run_ids: list[UUID]

    async def done(self) -> None:
        """Wait until all runs have ended. Look at the last ones first, a few at a time."""
        for first in reversed(range(0, len(self.run_ids), LOOKED_AT)):
            some = self.run_ids[first : first + LOOKED_AT]
            while await queries.find(self.connection, queries.GOING_ON, some):  # noqa: ASYNC110 - a notification for each run would disturb more
                await trio.sleep(LOOK)

    async def seconds(self) -> float:
        """Seconds from the first task's claim to the last task's end, by the server's clock."""
        found: float = await queries.find(self.connection, queries.RUNS_TIME, self.run_ids)
        return found


@asynccontextmanager
async def waiting(dsn: str, slug: str, count: int) -> AsyncIterator[Waiting]:
    """Start `count` runs of a flow, and delete them after the block."""
    async with await Connection.connect(dsn) as connection, connect(dsn) as client:
        await define_flow(connection, flows.FLOWS[slug](slug).definition())
        run_ids: list[UUID] = []
        for first in range(0, count, 1000):
            inputs = list(range(first, min(first + 1000, count)))
            run_ids += [run.id for run in await client.start_many(slug, inputs)]
        yield Waiting(connection, run_ids)
        await queries.run(connection, queries.CLEAR_RUNS, run_ids)


async def drained(dsn: str, slug: str, runs: int, processes: int, slots: int) -> float:
    """Seconds that worker processes take for this number of runs."""
    order = {"role": "work", "dsn": dsn, "flow": slug, "slots": slots}
    async with waiting(dsn, slug, runs) as queue:
        await at_once(order, processes, lambda _: queue.done())
        return await queue.seconds()


async def by_hand(dsn: str, jobs: int, processes: int, qty: int, pause: float = 0) -> float:
    """Seconds that processes take for this number of jobs in a plain table."""
    async with await Connection.connect(dsn) as connection:
        await connection.execute(queries.CLEAR_JOBS)
        await connection.execute(queries.ADD_JOBS, [jobs])
        order = {"role": "work_by_hand", "dsn": dsn, "qty": qty, "pause": pause}

        async def done(others: list[child.Child]) -> None:
            for other in others:
                await other.receive()

        await at_once(order, processes, done)
        seconds: float = await queries.find(connection, queries.JOBS_TIME)
        return seconds


async def at_once(
    order: dict[str, Any], processes: int, done: Callable[[list[child.Child]], Awaitable[None]]
) -> None:
    """Start processes, let them begin together, and end them when `done` returns."""
    async with AsyncExitStack() as stack:
        others = [
            await stack.enter_async_context(child.start(process.MODULE, order))
            for _ in range(processes)
        ]
        for other in others:
            await other.receive()
        for other in others:
            await other.send("go")
        await done(others)
        for other in others:
            await other.end()
