"""What a worker costs that has nothing to do."""

import time

import psycopg
import trio

from pgflow_events.bench import flows
from pgflow_events.bench import tables as queries
from pgflow_events.bench.measured import Measured, scaled
from pgflow_events.settings import Settings
from pgflow_events.worker.worker import Worker

MINUTE = 15  # seconds that stand for one
SETTLED = 1.0  # seconds until what a worker does at its start is over


async def idle(dsn: str) -> list[Measured]:
    """Statements that an idle worker sends in a minute, and the CPU it takes.

    What it does by the clock, it does once every `check_interval`, which is a minute. To have the
    minute in a quarter of its time, that interval is set to a quarter.
    Statements are known where pg_stat_statements is installed, and those of others with the same
    role in the same database count as well.
    """
    interval = scaled(MINUTE)
    worker = Worker([flows.single("bench_idle")], dsn, settings=Settings(check_interval=interval))
    with psycopg.connect(dsn, autocommit=True) as connection:
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            await trio.sleep(SETTLED)
            before, cpu = queries.statements(connection), time.process_time()
            await trio.sleep(interval)
            cpu = time.process_time() - cpu
            after = queries.statements(connection)
            nursery.cancel_scope.cancel()
    figures = {"CPU %": cpu / interval * 100}
    if before is not None and after is not None:
        figures = {"statements a minute": float(after - before)} | figures
    return [Measured(unit="", ours=figures)]
