"""What an idle worker sends to the database, and the CPU it takes, over 20 seconds."""

import time
from typing import Any

import psycopg
import trio

from pgflow_events import Flow, Worker

SECONDS = 20

CALLS = """
select coalesce(sum(calls), 0)::bigint from pg_stat_statements
where dbid = (select oid from pg_database where datname = current_database())
and query not like '%pg_stat_statements%'
"""


async def measure(dsn: str) -> dict[str, Any]:
    """Statements sent (the self-check at the start is over), and seconds of CPU in percent."""
    flow = Flow("bench_idle", input=int)

    @flow.step(flow.input)
    async def nothing(_: int) -> None: ...

    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create extension if not exists pg_stat_statements")
        async with trio.open_nursery() as nursery:
            await nursery.start(Worker([flow], dsn).run)
            await trio.sleep(1)
            before, cpu = connection.execute(CALLS).fetchall()[0][0], time.process_time()
            await trio.sleep(SECONDS)
            cpu = time.process_time() - cpu
            after = connection.execute(CALLS).fetchall()[0][0]
            nursery.cancel_scope.cancel()
    return {"statements in 20 s": after - before, "CPU %": cpu / SECONDS * 100}
