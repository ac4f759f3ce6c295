"""How late delayed work starts on an idle worker: retries, from their due time to the handler."""

import time
from typing import Any

import psycopg
import trio

from pgflow_events import Flow, Worker, connect
from pgflow_events.bench.measured import Measured, latencies

RUNS = 15

# The message of a retry is visible, and so due, at its vt.
DUE = """
select extract(epoch from a.vt - clock_timestamp()) from pgmq.q_bench_due a
"""


async def due(dsn: str) -> list[Measured]:
    """How late a retry starts on an idle worker, one second after the failure."""
    flow = Flow("bench_due", input=int, base_delay=1, max_attempts=2)
    late: list[float] = []
    failed = trio.Event()
    planned = 0.0

    @flow.step(flow.input, flow.context)
    async def again(_: int, context: Any) -> None:
        if context.attempt == 1:
            raise RuntimeError("not yet")
        late.append(time.monotonic() - planned)

    async with trio.open_nursery() as nursery, connect(dsn) as client:
        await nursery.start(Worker([flow], dsn, hooks=[lambda _: failed.set()]).run)
        for number in range(RUNS):
            failed = trio.Event()
            run = await client.start(flow, number)
            await failed.wait()
            planned = await trio.to_thread.run_sync(when_due, dsn)
            await run.wait()
        nursery.cancel_scope.cancel()
    return [Measured(unit="ms", ours=latencies(late))]


def when_due(dsn: str) -> float:
    """The due time of the only message, on the monotonic clock."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        while True:
            ((seconds,),) = connection.execute(DUE).fetchall()
            if 0 < seconds < 2.5:  # else the failure is not committed yet
                return time.monotonic() + float(seconds)
