"""How soon many steps start that wait for one, and the one that waits for them."""

import time
from collections.abc import Callable

import trio

from pgflow_events.bench import flows
from pgflow_events.bench import tables as queries
from pgflow_events.bench.flows import CHILDREN
from pgflow_events.bench.measured import Measured, latencies, scaled
from pgflow_events.client.client import connect
from pgflow_events.postgres.connection import Connection
from pgflow_events.settings import Settings
from pgflow_events.worker.worker import Worker

RUNS, WARM = 20, 2


async def fan(dsn: str) -> list[Measured]:
    """A root with 100 steps that wait for it: from its end to the last start, and to the join's.

    The floor does by hand what has to be committed on the way: 100 jobs that are added, and
    claimed and completed as many at once as the worker has slots.
    """
    began: list[float] = []
    children: list[list[float]] = []
    joined: list[float] = []

    def begin(_: int) -> None:
        began.append(time.perf_counter())
        children.append([])

    flow = flows.fan_out("bench_fan", begin, noting(lambda: children[-1]), noting(lambda: joined))
    async with trio.open_nursery() as nursery, connect(dsn) as client:
        await nursery.start(Worker([flow], dsn).run)
        for number in range(WARM + scaled(RUNS)):
            await (await client.start(flow, number)).result()
        nursery.cancel_scope.cancel()
    last = [max(each) - at for each, at in zip(children, began, strict=True)][WARM:]
    join = [end - at for end, at in zip(joined, began, strict=True)][WARM:]
    floor_last, floor_join = await floor(dsn)
    return [measured("last child", last, floor_last), measured("join", join, floor_join)]


def noting(times: Callable[[], list[float]]) -> flows.Note:
    """Note the time there."""
    return lambda _: times().append(time.perf_counter())


def measured(setting: str, ours: list[float], floor: list[float]) -> Measured:
    """Latencies, and what is a child's share of the median."""
    figures = [latencies(each) for each in (ours, floor)]
    shares = [each | {"of each child, ms": each["p50"] / CHILDREN} for each in figures]
    return Measured(setting=setting, unit="ms", ours=shares[0], floor=shares[1])


async def floor(dsn: str) -> tuple[list[float], list[float]]:
    """Seconds until the last job is claimed, and until all are completed."""
    last, join = [], []
    async with await Connection.connect(dsn) as connection:
        for _ in range(WARM + scaled(RUNS)):
            at = time.perf_counter()
            await connection.execute(queries.ADD_JOBS, [CHILDREN])
            jobs = await queries.work_jobs(connection, [], Settings().slots)
            while jobs:
                claimed = time.perf_counter()
                jobs = await queries.work_jobs(connection, [n for n, _ in jobs], Settings().slots)
            last.append(claimed - at)
            join.append(time.perf_counter() - at)
    return last[WARM:], join[WARM:]
