"""The cost of an idle worker."""

import time

import psycopg
import trio

from pgflow_events.bench import flows
from pgflow_events.bench import tables as queries
from pgflow_events.bench.measured import Measured, scaled
from pgflow_events.settings import Settings
from pgflow_events.worker.worker import Worker

MINUTE = 15  # seconds that stand for a minute
SETTLED = 1.0  # seconds until a worker has finished its start


async def idle(dsn: str) -> list[Measured]:
    """The statements that an idle worker sends in a minute, and its CPU time.

    An idle worker acts once in a `check_interval`, which is a minute. To measure a minute in a
    quarter of the time, the benchmark sets the interval to a quarter.
    Statements are known only if pg_stat_statements is installed. Statements of other sessions with
    the same role in the same database count too.
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
