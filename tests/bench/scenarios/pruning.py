"""What a run costs when many have gone before it, with pruning on.

Blocks of runs, each with a page of 20 kB, are done one after the other. After each block, all
runs that ended are pruned but the last few. The last blocks should take as long as the first.
"""

import os
import time
from datetime import UTC, datetime

import psycopg
import trio

from blobstore.abc import caller_of
from pgflow_events import Flow, Settings, Worker, connect
from pgflow_events.bench.measured import Measured
from pgflow_events.postgres.connection import Connection
from pgflow_events.upkeep.retention import prune
from tests.bench.measuring import html, percentile

RUNS = int(os.environ.get("BENCH_PRUNING_RUNS", "8000"))
BLOCK = 1000
EDGE = 3  # blocks at either end that are compared

SIZE = "select pg_database_size(current_database())"


async def pruning(dsn: str) -> list[Measured]:
    """Runs a second after many others that were pruned meanwhile; beside it, the first ones."""
    flow, page = Flow("bench_pruning", input=int), html(20_000)

    @flow.step(flow.input)
    async def website(run: int) -> str:
        return f"<!-- {run} -->{page}"

    @flow.step(website)
    async def length(content: str) -> int:
        return len(content)

    rates: list[float] = []
    sizes: list[int] = []
    async with (
        trio.open_nursery() as nursery,
        connect(dsn) as client,
        await Connection.connect(dsn, autocommit=True) as connection,
    ):
        await nursery.start(Worker([flow], dsn, settings=Settings(slots=200)).run)
        for first in range(0, RUNS, BLOCK):
            started = datetime.now(UTC)
            began = time.perf_counter()
            runs = await client.start_many(flow, list(range(first, first + BLOCK)))
            async with trio.open_nursery() as waiters:
                for run in runs:
                    waiters.start_soon(run.wait)
            rates.append(BLOCK / (time.perf_counter() - began))
            await prune(caller_of(connection), started)
            sizes.append(await trio.to_thread.run_sync(size_of, dsn))
        nursery.cancel_scope.cancel()
    early, late = rates[1 : 1 + EDGE], rates[-EDGE:]
    return [
        Measured(
            setting=f"after {RUNS:,} runs",
            unit="runs/s",
            ours={"rate": percentile(late, 0.5), "database, MB": sizes[-1] / 1e6},
            floor={"rate": percentile(early, 0.5), "database, MB": sizes[EDGE] / 1e6},
        )
    ]


def size_of(dsn: str) -> int:
    """Bytes of the database."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        ((size,),) = connection.execute(SIZE).fetchall()
        return int(size)
