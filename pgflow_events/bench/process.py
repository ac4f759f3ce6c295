"""A process of a benchmark: a worker, a handwritten worker, or a starter of runs.

The first message names the role. The process prepares, reports that it is ready, waits for a line
on its standard input, and begins.
"""

import random
import sys
import time
from collections.abc import Callable
from typing import Any

import orjson
import psycopg
import trio

from pgflow_events.bench import tables as queries
from pgflow_events.bench.flows import FLOWS
from pgflow_events.client.client import Client, connect
from pgflow_events.postgres.connection import Connection
from pgflow_events.service.child import receive, send
from pgflow_events.settings import Settings
from pgflow_events.worker.worker import Worker

MODULE = __name__


def main() -> None:
    """Play the role that the first message names."""
    order = receive()
    roles: dict[str, Callable[..., None]] = {
        "work": work,
        "work_by_hand": work_by_hand,
        "start_runs": start_runs,
        "call": call,
    }
    roles[order.pop("role")](**order)


def ready() -> bool:
    """Report readiness, and wait for a line. Return False if the standard input ended instead."""
    send("ready")
    return bool(sys.stdin.readline())


def work(dsn: str, flow: str, slots: int) -> None:
    """Run the tasks of a flow until the standard input ends."""
    worker = Worker([FLOWS[flow](flow)], dsn, settings=Settings(slots=slots))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run)
            await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
            nursery.cancel_scope.cancel()

    if ready():
        trio.run(main)


def work_by_hand(dsn: str, qty: int, pause: float) -> None:
    """Claim and complete jobs in batches of `qty`, until no job is left."""

    async def main() -> None:
        async with await Connection.connect(dsn) as connection:
            jobs = await queries.work_jobs(connection, [], qty)
            while jobs:
                await trio.sleep(pause)
                jobs = await queries.work_jobs(connection, [n for n, _ in jobs], qty)

    if ready():
        trio.run(main)
    send("done")


def start_runs(dsn: str) -> None:
    """Commit the queries of messages. Answer each message with the times of its commits."""
    with psycopg.connect(dsn) as connection:
        send("ready")
        for line in sys.stdin:
            order = orjson.loads(line)
            send(commit_all(connection, **order))


def commit_all(
    connection: psycopg.Connection[Any],
    query: str,
    parameters: list[tuple[Any, ...]],
    gap: float,
    *,
    returned: bool,
) -> list[float]:
    """Commit the query with each of the parameters, with random gaps of `gap` seconds on average.

    Return the time right before each COMMIT was sent, or right after it returned, by a clock that
    all processes share.
    """
    times = []
    for each in parameters:
        time.sleep(random.uniform(gap / 2, gap * 3 / 2))  # noqa: S311 - no secret
        connection.execute(query.encode(), each)
        before = time.monotonic()
        connection.commit()
        times.append(time.monotonic() if returned else before)
    return times


def call(dsn: str) -> None:
    """Start runs as a client, and add jobs by hand, in turns. Answer each message with the times.

    The times of a run are those of the call, of its return, and of the run's end as the client
    knows it; null if the message says not to wait. Those of a job are the call and its return.
    """

    async def main() -> None:
        async with connect(dsn) as client, await Connection.connect(dsn) as connection:
            send("ready")
            while line := await trio.to_thread.run_sync(sys.stdin.readline):
                send(await call_all(client, connection, **orjson.loads(line)))

    trio.run(main)


async def call_all(
    client: Client,
    connection: Connection,
    slugs: list[str],
    gap: float,
    *,
    channel: str | None,
    wait: bool,
) -> tuple[list[tuple[float, float, float | None]], list[tuple[float, float]]]:
    """Start a run of each flow after a random rest; with a channel, add a job after each."""
    runs, jobs = [], []
    for number, slug in enumerate(slugs):
        await trio.sleep(random.uniform(gap / 2, gap * 3 / 2))  # noqa: S311 - no secret
        began = time.monotonic()
        run = await client.start(slug, number)
        returned = time.monotonic()
        if wait:
            await run.wait()
        runs.append((began, returned, time.monotonic() if wait else None))
        if channel:
            await trio.sleep(random.uniform(gap / 2, gap * 3 / 2))  # noqa: S311 - no secret
            began = time.monotonic()
            await queries.run(connection, queries.ADD_JOB, number, channel)
            jobs.append((began, time.monotonic()))
    return runs, jobs


if __name__ == "__main__":
    main()
