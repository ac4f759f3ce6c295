"""How late delayed runs start on an idle worker, and what a crowd of them costs the other runs."""

import os
import time
from functools import partial

import psycopg
import trio

from pgflow_events import Client, Flow, Worker, connect
from pgflow_events.bench.measured import Measured, latencies

RUNS = 15
CLOSE, GAP = 200, 0.01  # runs that begin one after the other, and the seconds between them
CROWD = int(os.environ.get("BENCH_DELAYED_RUNS", "100000"))
HOUR = 3600.0
SLUG = "bench_delay"

UNTIL = f"select extract(epoch from max(vt) - clock_timestamp())::float8 from pgmq.q_{SLUG}"
# When the tasks were claimed, by the clock of the database.
LATE = """
select extract(epoch from t.started_at - t.queued_at)::float8
from pgflow.step_tasks t where t.run_id = any(%s)
"""
START_CROWD = """
select count(*) from pgflow.start_flows(%s, array(
  select to_jsonb(n) from generate_series(1, %s) n
), delay => 3600)
"""


async def delay(dsn: str) -> list[Measured]:
    """Delayed runs: alone, close together, and a crowd that is not due yet."""
    flow = Flow(SLUG, input=int)
    begun: dict[int, float] = {}

    @flow.step(flow.input)
    async def begin(number: int) -> None:
        begun[number] = time.monotonic()

    async with trio.open_nursery() as nursery, connect(dsn) as client:
        await nursery.start(Worker([flow], dsn).run)
        alone = [await lone(client, flow, begun, dsn, number) for number in range(RUNS)]
        close = await close_together(client, flow, dsn)
        before = [await at_once(client, flow, begun, RUNS + n) for n in range(RUNS)]
        await trio.to_thread.run_sync(partial(asked, dsn, START_CROWD, SLUG, CROWD))
        beside = [await at_once(client, flow, begun, 2 * RUNS + n) for n in range(RUNS)]
        nursery.cancel_scope.cancel()
    return [
        Measured(setting="alone: moment to handler", unit="ms", ours=latencies(alone)),
        Measured(
            setting=f"{CLOSE} runs, {GAP * 1000:g} ms apart", unit="ms", ours=latencies(close)
        ),
        Measured(
            setting=f"client.start to handler beside {CROWD:,} delayed runs",
            unit="ms",
            ours=latencies(beside),
            floor=latencies(before),
        ),
    ]


async def lone(
    client: Client, flow: Flow[int], begun: dict[int, float], dsn: str, number: int
) -> float:
    """How late a run starts that is delayed by a second."""
    run = await client.start(flow, number, delay=1)
    seconds = await trio.to_thread.run_sync(asked, dsn, UNTIL)
    planned = time.monotonic() + seconds
    await run.wait()
    return begun[number] - planned


async def close_together(client: Client, flow: Flow[int], dsn: str) -> list[float]:
    """How late runs are claimed whose moments follow each other."""
    began, runs = trio.current_time(), []
    for number in range(CLOSE):
        passed = trio.current_time() - began
        runs.append(await client.start(flow, -1, delay=2 + number * GAP - passed))
    for run in runs:
        await run.wait()
    with psycopg.connect(dsn) as connection:
        found = connection.execute(LATE, [[run.id for run in runs]]).fetchall()
    return [late for (late,) in found]


async def at_once(client: Client, flow: Flow[int], begun: dict[int, float], number: int) -> float:
    """From the call that starts a run to its handler."""
    await trio.sleep(0.02)
    began = time.monotonic()
    await (await client.start(flow, number)).wait()
    return begun[number] - began


def asked(dsn: str, query: str, *given: object) -> float:
    """The answer of the database."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        ((answer,),) = connection.execute(query.encode(), given).fetchall()
    return float(answer)
