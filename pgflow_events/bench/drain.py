"""How fast waiting runs get done."""

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
from pgflow_events.core.tasks import define_flow
from pgflow_events.demo import child
from pgflow_events.postgres.connection import Connection
from pgflow_events.settings import Settings

RUNS = 6_000
LOOK = 0.05  # seconds between two looks whether all is done
LOOKED_AT = 200  # runs
MANY_SLOTS = 200
HANDLERS = {"no-op": ("bench_noop", 0.0), "1 ms": ("bench_brief", 0.001)}


async def drain(dsn: str) -> list[Measured]:
    """Waiting runs of one step that worker processes get done in a second.

    The floor is a query by hand that completes jobs of a plain table and claims the next ones, as
    many at once as the worker has slots, in as many processes; where the handler takes a
    millisecond, these wait that long for each batch.
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
    """Runs that wait to be done."""

    connection: Connection
    run_ids: list[UUID]

    async def done(self) -> None:
        """Wait until all of them have ended; most of the time, look at few of the last ones."""
        for first in reversed(range(0, len(self.run_ids), LOOKED_AT)):
            some = self.run_ids[first : first + LOOKED_AT]
            while await queries.find(self.connection, queries.GOING_ON, some):  # noqa: ASYNC110 - to be told of each would disturb more
                await trio.sleep(LOOK)

    async def seconds(self) -> float:
        """From the first task's claim to the last one's end, by the clock of the server."""
        found: float = await queries.find(self.connection, queries.RUNS_TIME, self.run_ids)
        return found


@asynccontextmanager
async def waiting(dsn: str, slug: str, count: int) -> AsyncIterator[Waiting]:
    """Start so many runs of a flow of ours; they are deleted afterwards."""
    async with await Connection.connect(dsn) as connection, connect(dsn) as client:
        await define_flow(connection, flows.FLOWS[slug](slug).definition())
        run_ids: list[UUID] = []
        for first in range(0, count, 1000):
            inputs = list(range(first, min(first + 1000, count)))
            run_ids += [run.id for run in await client.start_many(slug, inputs)]
        yield Waiting(connection, run_ids)
        await queries.run(connection, queries.CLEAR_RUNS, run_ids)


async def drained(dsn: str, slug: str, runs: int, processes: int, slots: int) -> float:
    """Seconds that worker processes take for so many runs."""
    order = {"role": "work", "dsn": dsn, "flow": slug, "slots": slots}
    async with waiting(dsn, slug, runs) as queue:
        await at_once(order, processes, lambda _: queue.done())
        return await queue.seconds()


async def by_hand(dsn: str, jobs: int, processes: int, qty: int, pause: float = 0) -> float:
    """The same of jobs in a plain table."""
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
    """Let some processes begin together, until all is done."""
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
