"""How soon a handler stops: from the COMMIT that cancels its run to the handler's `finally`."""

import time
from collections import defaultdict
from uuid import UUID

import psycopg
import trio

from pgflow_events import Context, Flow, Settings, Worker, connect
from pgflow_events.bench.measured import Measured, latencies, scaled

RUNS = 300
BESIDE = 500  # handlers that go on

CANCEL = "select from pgflow.cancel_runs(array[%s::uuid])"


async def cancel(dsn: str) -> list[Measured]:
    """Cancel run after run, each while its handler waits, alone and beside others."""
    return [await measured(dsn, beside) for beside in (0, BESIDE)]


async def measured(dsn: str, beside: int) -> Measured:
    """The times while so many other handlers of the worker wait."""
    flow: Flow[int] = Flow("bench_cancel", timeout=3600)
    running, stopped = defaultdict[UUID, trio.Event](trio.Event), trio.Event()
    late: list[float] = []
    began = 0.0

    @flow.step(flow.context)
    async def wait(context: Context) -> None:
        running[context.run_id].set()
        try:
            await trio.sleep_forever()
        finally:
            late.append(time.monotonic() - began)
            stopped.set()

    settings = Settings(slots=BESIDE + 1)
    with psycopg.connect(dsn) as canceller:
        async with trio.open_nursery() as nursery, connect(dsn) as client:
            await nursery.start(Worker([flow], dsn, settings=settings).run)
            for run in await client.start_many(flow, [0] * beside):
                await running[run.id].wait()
            for _ in range(scaled(RUNS)):
                run = await client.start(flow, 0)
                await running[run.id].wait()
                canceller.execute(CANCEL, [run.id])
                stopped = trio.Event()
                began = time.monotonic()
                await trio.to_thread.run_sync(canceller.commit)
                await stopped.wait()
            measured_ones = list(late)  # those that follow are cancelled with the worker
            nursery.cancel_scope.cancel()
    return Measured(setting=f"beside {beside} others", unit="ms", ours=latencies(measured_ones))
