"""How soon a task runs elsewhere when its worker is killed: from `kill -9` to the handler."""

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import trio

from pgflow_events import Context, Flow, Settings, Worker, connect
from pgflow_events.bench.measured import Measured, latencies, scaled
from tests.bench.measuring import define

KILLS = 200
MODULE = "tests.bench.scenarios.recovery"
# Each of the two watches the other one.
WATCHED = """
select count(*) = 2 from pg_locks
where locktype = 'advisory' and not granted
and database = (select oid from pg_database where datname = current_database())
"""

flow = Flow("bench_recovery", timeout=600)
started: list[float] = []


@flow.step(flow.context)
async def step(context: Context) -> None:
    """Wait to be killed, or note when it was taken over."""
    if context.attempt == 1:
        sys.stdout.write("claimed\n")
        sys.stdout.flush()
        await trio.sleep_forever()
    started.append(time.monotonic())


async def recovery(dsn: str) -> list[Measured]:
    """From `kill -9` of a worker to its task's handler in another one, idle until then."""
    logging.getLogger("pgflow_events.liveness").setLevel(logging.ERROR)  # each death is meant
    await define(dsn, flow)
    took = [await kill(dsn) for _ in range(scaled(KILLS))]
    return [Measured(unit="ms", ours={**latencies(took), "max": 1000 * max(took)})]


async def kill(dsn: str) -> float:
    """Seconds from one kill to the handler."""
    with victim(dsn) as process:
        async with connect(dsn) as client, trio.open_nursery() as nursery:
            run = await client.start(flow, None)
            assert process.stdout
            await trio.to_thread.run_sync(process.stdout.readline)
            rescuer = Worker([flow], dsn, hooks=())
            await nursery.start(rescuer.run)
            await trio.to_thread.run_sync(until_watched, dsn)
            killed = time.monotonic()
            process.kill()
            await run.result()
            rescuer.stop()
    return started[-1] - killed


@contextmanager
def victim(dsn: str) -> Iterator["subprocess.Popen[str]"]:
    """A worker in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-m", MODULE, dsn], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until_watched(dsn: str) -> None:
    """Return when each of the two workers watches the other one."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        while connection.execute(WATCHED).fetchall() != [(True,)]:
            time.sleep(0.005)


if __name__ == "__main__":
    trio.run(Worker([flow], sys.argv[1], settings=Settings(slots=1)).run)
