"""From the commit of start_flow in one process to the start of the handler in an idle worker.

The floor is a raw NOTIFY from that process to a psycopg listener on trio, and one query after it
that claims the task committed along with it. Rounds of both alternate. Times are of the system-wide
monotonic clock; they begin right before COMMIT is sent.
"""

import random
import time
from typing import Any
from uuid import uuid4

import psycopg
import trio

from pgflow_events import Flow, Worker, queries
from pgflow_events.connection import Connection
from tests.bench.measuring import in_process, percentile

ROUNDS, STARTS = 5, 40

START = "select from pgflow.start_flow('bench_wake', '1')"
START_FLOOR = """
set local pgflow.notify = 'off';
select from pgflow.start_flow('bench_wake_floor', '1');
notify pgflow_bench_floor
"""
DEFINE_FLOOR = """
select pgflow.create_flow('bench_wake_floor'), pgflow.add_step('bench_wake_floor', 'note')
"""


def produce(dsn: str, statement: str) -> list[float]:
    """Commit the statement a number of times at random gaps; when each COMMIT was sent."""
    sent = []
    with psycopg.connect(dsn) as connection:
        for _ in range(STARTS):
            time.sleep(random.uniform(0.01, 0.03))
            connection.execute(statement)
            sent.append(time.monotonic())
            connection.commit()
    return sent


async def measure(dsn: str) -> dict[str, Any]:
    """The figures, in milliseconds."""
    flow = Flow("bench_wake", input=int)
    started: list[float] = []

    @flow.step(flow.input)
    async def note(_: int) -> None:
        started.append(time.monotonic())

    ours: list[float] = []
    notified: list[float] = []
    claimed: list[float] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(Worker([flow], dsn).run)
        for _ in range(ROUNDS):
            sent = await in_process(produce, dsn, START)
            ours += (b - a for a, b in zip(sent, started[-len(sent) :], strict=True))
            await floor(dsn, notified, claimed)
        nursery.cancel_scope.cancel()
    return (
        figures("ours", ours)
        | figures("NOTIFY", notified)
        | figures("floor", claimed)
        | {"ours p50 / floor p50": percentile(ours, 0.5) / percentile(claimed, 0.5)}
    )


def figures(name: str, seconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile, in milliseconds."""
    return {f"{name} p{int(p * 100)} ms": percentile(seconds, p) * 1e3 for p in (0.5, 0.99)}


async def floor(dsn: str, notified: list[float], claimed: list[float]) -> None:
    """One round of raw notifications, each followed by one claim."""
    heard: list[tuple[float, float]] = []

    async def listen() -> None:
        async with (
            await Connection.connect(dsn) as listener,
            await Connection.connect(dsn) as claimer,
        ):
            listener.add_notify_handler(lambda _: None)
            await listener.execute("listen pgflow_bench_floor")
            await claimer.execute(DEFINE_FLOOR)
            for _ in range(10):  # as warm as a worker's connection
                await queries.claim_tasks(claimer, ["bench_wake_floor"], 20, uuid4())
            nursery.start_soon(send)
            while len(heard) < STARTS:
                await listener.read_notifies()
                at = time.monotonic()
                await queries.claim_tasks(claimer, ["bench_wake_floor"], 20, uuid4())
                heard.append((at, time.monotonic()))

    sent: list[float] = []

    async def send() -> None:
        sent.extend(await in_process(produce, dsn, START_FLOOR))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
    notified += (at - began for began, (at, _) in zip(sent, heard, strict=True))
    claimed += (at - began for began, (_, at) in zip(sent, heard, strict=True))
