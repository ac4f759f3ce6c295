"""What a flow of several steps costs: how soon its last one starts, how many get done."""

import random
import time

import trio

from pgflow_events.bench import flows
from pgflow_events.bench import tables as queries
from pgflow_events.bench.drain import by_hand, drained
from pgflow_events.bench.measured import Measured, latencies, rate, scaled
from pgflow_events.bench.wake import Starter, starter
from pgflow_events.postgres.connection import Connection
from pgflow_events.settings import Settings
from pgflow_events.worker.worker import Worker

FLOW = "bench_chain"
COMMITS = 4  # the start of the run, and the end of each step before the last
ROUNDS, STARTS, WARM = 5, 20, 5
GAP = 0.05  # seconds between two, so that one is over before the next one starts
RUNS = 1_500
TASKS = 4


async def chain(dsn: str) -> list[Measured]:
    """A flow a -> b, c -> d: from its start's commit to the start of d, and runs a second.

    The floor of the latency are four commits of one row each, one after the other: a worker that
    takes over what its commits make ready can do with these. The floor of the rate is that of
    `drain`, for four jobs a run.
    """
    return [await one_by_one(dsn), await loaded(dsn)]


async def one_by_one(dsn: str) -> Measured:
    """Single runs, while the worker has nothing else to do."""
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
    """Seconds from each COMMIT of a start to the start of the last handler."""
    sent = await start(queries.START_RUN, [(FLOW, n) for n in range(count)], GAP)
    return [await noted.receive() - at for at in sent]


async def commits(connection: Connection) -> float:
    """Seconds that the commits take, on a machine that had nothing to do before as well."""
    await trio.sleep(random.uniform(GAP / 2, GAP * 3 / 2))  # noqa: S311 - no secret
    began = time.monotonic()
    for _ in range(COMMITS):
        await connection.execute(queries.ADD_COMMIT)
    return time.monotonic() - began


async def loaded(dsn: str) -> Measured:
    """Runs that wait, done by one process."""
    runs, slots = scaled(RUNS), Settings().slots
    ours = await drained(dsn, FLOW, runs, 1, slots)
    floor = await by_hand(dsn, runs * TASKS, 1, slots)
    return Measured(setting="loaded", unit="runs/s", ours=rate(runs, ours), floor=rate(runs, floor))
