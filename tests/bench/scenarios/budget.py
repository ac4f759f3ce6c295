"""Many tasks with large inputs, and little memory for them.

The same tasks are run with the byte budget and with one so large that only the slots are a limit.
"""

import os
import time

import trio

from pgflow_events import Flow, Settings, Worker, connect
from pgflow_events.bench.measured import Measured
from tests.bench.measuring import in_process
from tests.bench.scenarios.stream import MIB, peak_of

RUNS = 60
SIZE = 16 * MIB
LIMIT = 64 * MIB


async def budget(dsn: str) -> list[Measured]:
    """Peak memory of a worker whose tasks load 960 MiB, within a budget of 64 MiB and without."""
    await in_process(start, dsn)
    bound, seconds = await in_process(work, dsn, "bench_budget", LIMIT)
    free, seconds_free = await in_process(work, dsn, "bench_no_budget", RUNS * SIZE)
    return [
        Measured(
            unit="",
            ours={"peak RSS, MiB": bound / MIB, "tasks/s": RUNS / seconds},
            beside={
                "without a budget": {"peak RSS, MiB": free / MIB, "tasks/s": RUNS / seconds_free}
            },
        )
    ]


def flows() -> tuple[Flow[bytes], ...]:
    """Twice the same: a handler that holds its input for a while."""
    return tuple(make(slug) for slug in ("bench_budget", "bench_no_budget"))


def make(slug: str) -> Flow[bytes]:
    """A flow of one step."""
    flow = Flow(slug, input=bytes, timeout=600)

    @flow.step(flow.input)
    async def hold(page: bytes) -> int:
        await trio.sleep(0.1)
        return len(page)

    return flow


def start(dsn: str) -> None:
    """Define the flows and start their runs."""

    async def main() -> None:
        async with trio.open_nursery() as nursery, connect(dsn) as client:
            worker = Worker(flows(), dsn)
            await nursery.start(worker.run)
            worker.stop()
        async with connect(dsn) as client:
            for flow in flows():
                for number in range(RUNS):
                    await client.start(flow, number.to_bytes(8) + os.urandom(SIZE - 8))

    trio.run(main)


def work(dsn: str, slug: str, budget: int) -> tuple[int, float]:
    """Run the tasks of a flow; the most memory that this process had, and seconds."""
    (flow,) = (flow for flow in flows() if flow.slug == slug)
    left = RUNS

    async def main() -> float:
        began = time.perf_counter()
        worker = Worker(
            [flow],
            dsn,
            settings=Settings(input_budget=budget, cache_budget=0),
            hooks=[lambda _: count(worker)],
        )
        await worker.run()
        return time.perf_counter() - began

    def count(worker: Worker) -> None:
        nonlocal left
        left -= 1
        if not left:
            worker.stop()

    seconds = trio.run(main)
    return peak_of(os.getpid()), seconds
