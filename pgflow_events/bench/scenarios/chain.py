"""The cost of a flow of several steps: how soon the last step starts, and runs a second."""

import random
import time

import trio

from pgflow_events.bench import flows
from pgflow_events.bench import tables as queries
from pgflow_events.bench.measured import Measured, latencies, rate, scaled
from pgflow_events.bench.scenarios.drain import by_hand, drained
from pgflow_events.bench.scenarios.wake import Starter, starter
from pgflow_events.postgres.connection import Connection
from pgflow_events.settings import Settings
from pgflow_events.worker.worker import Worker

FLOW = "bench_chain"
COMMITS = 4  # the start of the run, and the end of each step before the last one
ROUNDS, STARTS, WARM = 5, 20, 5
GAP = 0.05  # seconds between two runs, so that one ends before the next one starts
RUNS = 1_500
TASKS = 4


async def chain(dsn: str) -> list[Measured]:
    """A flow a -> b, c -> d: from the commit of the start to the start of d, and runs a second.

    The floor of the latency is four commits of one row each, one after the other. A worker that
    gets the next tasks from its own commits needs no more. The floor of the rate is that of
    `drain`, for four jobs a run.
    """
    return [await one_by_one(dsn), await loaded(dsn)]


async def one_by_one(dsn: str) -> Measured:
    """Single runs, while the worker is otherwise idle."""
    ours: list[float] = []
    floor: list[float] = []
    note, noted = trio.open_memory_channel[float](1000)
    flow = flows.four_steps(FLOW, lambda _: note.send_nowait(time.monotonic()))
    async with (
        starter(dsn) as start,
        await Connection.connect(dsn) as connection,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(Worker([flow], dsn).run)
        await one_round(start, noted, WARM)
        for _ in range(ROUNDS):
            ours += await one_round(start, noted, scaled(STARTS))
            floor += [await commits(connection) for _ in range(scaled(STARTS))]
        nursery.cancel_scope.cancel()
    return Measured(setting="idle", unit="ms", ours=latencies(ours), floor=latencies(floor))


async def one_round(
    start: Starter, noted: trio.MemoryReceiveChannel[float], count: int
) -> list[float]:
    """Seconds from each start's COMMIT to the start of the last handler."""
    sent = await start(queries.START_RUN, [(FLOW, n) for n in range(count)], GAP)
    return [await noted.receive() - at for at in sent]


async def commits(connection: Connection) -> float:
    """Seconds that the commits take, on a machine that was idle before, as in `one_by_one`."""
    await trio.sleep(random.uniform(GAP / 2, GAP * 3 / 2))  # noqa: S311 - no secret
    began = time.monotonic()
    for _ in range(COMMITS):
        await connection.execute(queries.ADD_COMMIT)
    return time.monotonic() - began


async def loaded(dsn: str) -> Measured:
    """Waiting runs, which one process works off."""
    runs, slots = scaled(RUNS), Settings().slots
    ours = await drained(dsn, FLOW, runs, 1, slots)
    floor = await by_hand(dsn, runs * TASKS, 1, slots)
    return Measured(setting="loaded", unit="runs/s", ours=rate(runs, ours), floor=rate(runs, floor))
