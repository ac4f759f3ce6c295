"""How soon many dependents of one step start, and the step that waits for all of them."""

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
    """A root with 100 dependents: from its end to the last start, and to the start of the join.

    The floor makes the necessary commits by hand: it adds 100 jobs, and then claims and completes
    them in batches. A batch has as many jobs as the worker has slots.
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
    """A note that appends the time to a list."""
    return lambda _: times().append(time.perf_counter())


def measured(setting: str, ours: list[float], floor: list[float]) -> Measured:
    """The latencies, and each child's share of the median."""
    figures = [latencies(each) for each in (ours, floor)]
    shares = [each | {"of each child, ms": each["p50"] / CHILDREN} for each in figures]
    return Measured(setting=setting, unit="ms", ours=shares[0], floor=shares[1])


async def floor(dsn: str) -> tuple[list[float], list[float]]:
    """Seconds until the last job is claimed, and until all jobs are completed."""
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
