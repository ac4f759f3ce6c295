"""How soon an idle worker starts a task that was just committed."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from pgflow_events.bench import flows, process
from pgflow_events.bench import tables as queries
from pgflow_events.bench.measured import Measured, latencies, scaled
from pgflow_events.postgres.connection import Connection
from pgflow_events.service import child
from pgflow_events.worker.worker import Worker

FLOW = "bench_wake"
CHANNEL = "pgflow_bench"
ROUNDS, STARTS, WARM = 5, 40, 10
GAP = 0.02  # seconds between two runs, on average


async def wake(dsn: str) -> list[Measured]:
    """From the commit of a run in one process to the start of its handler in an idle worker.

    The floor is a plain NOTIFY from that process to a psycopg listener on trio, and a handwritten
    query that claims the job of the same commit. Rounds of both alternate. Each time begins right
    before COMMIT is sent.
    """
    ours: list[float] = []
    notified: list[float] = []
    claimed: list[float] = []
    async with starter(dsn) as start, idle_worker(dsn) as started, by_hand(dsn) as heard:
        for number in range(ROUNDS + 1):
            count = scaled(STARTS) if number else WARM
            runs = await start(queries.START_RUN, [(FLOW, n) for n in range(count)])
            handled = [await started.receive() for _ in runs]
            jobs = await start(queries.ADD_JOB, [(n, CHANNEL) for n in range(count)])
            answers = [await heard.receive() for _ in jobs]
            if number:  # the first round is the warm-up
                ours += (at - sent for sent, at in zip(runs, handled, strict=True))
                notified += (at - sent for sent, (at, _) in zip(jobs, answers, strict=True))
                claimed += (at - sent for sent, (_, at) in zip(jobs, answers, strict=True))
    return [
        Measured(
            unit="ms",
            ours=latencies(ours),
            floor=latencies(claimed),
            beside={"NOTIFY alone": latencies(notified)},
        )
    ]


class Starter:
    """Makes another process commit."""

    def __init__(self, other: child.Child) -> None:
        self._other = other

    async def __call__(
        self,
        query: str,
        parameters: list[tuple[Any, ...]],
        gap: float = GAP,
        *,
        returned: bool = False,
    ) -> list[float]:
        """Commit a query with each of the parameters.

        Return when each COMMIT was sent, or when it had returned.
        """
        order = {"query": query, "parameters": parameters, "gap": gap, "returned": returned}
        await self._other.send(order)
        times: list[float] = await self._other.receive()
        return times


@asynccontextmanager
async def starter(dsn: str) -> AsyncIterator[Starter]:
    """A process that commits queries for us."""
    async with child.start(process.MODULE, {"role": "start_runs", "dsn": dsn}) as other:
        await other.receive()
        yield Starter(other)


@asynccontextmanager
async def idle_worker(dsn: str) -> AsyncIterator[trio.MemoryReceiveChannel[float]]:
    """A worker, and the times at which its handlers start."""
    note, noted = trio.open_memory_channel[float](1000)
    flow = flows.single(FLOW, lambda _: note.send_nowait(time.monotonic()))
    async with trio.open_nursery() as nursery:
        await nursery.start(Worker([flow], dsn).run)
        yield noted
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def by_hand(dsn: str) -> AsyncIterator[trio.MemoryReceiveChannel[tuple[float, float]]]:
    """The floor: when each job's notification arrived, and when the job was claimed."""
    note, noted = trio.open_memory_channel[tuple[float, float]](1000)
    async with (
        await Connection.connect(dsn) as listener,
        await Connection.connect(dsn) as claimer,
        trio.open_nursery() as nursery,
    ):

        async def listen() -> None:
            done: list[int] = []
            while True:
                await listener.read_notifies()
                at = time.monotonic()
                jobs = await queries.work_jobs(claimer, done, 20)
                done = [n for n, _ in jobs]
                for _ in jobs:
                    note.send_nowait((at, time.monotonic()))

        listener.add_notify_handler(lambda _: None)
        await listener.execute(f"listen {CHANNEL}")
        nursery.start_soon(listen)
        yield noted
        nursery.cancel_scope.cancel()
