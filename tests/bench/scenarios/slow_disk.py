"""Many clients on a server whose disk takes its time.

Each fsync and fdatasync of the server is made longer by a library that is preloaded. One commit
after the other could then do no more than 1,000 or 200 a second; those that wait together share a
wait. A NOTIFY takes this away: it holds a lock of the whole server until its commit is on the disk.

Commits that share their waits do not depend on the disk any more. What is left is the cost of
calls that settle no more than 5 tasks each; as many slots in fewer workers show it.
"""

import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

import psycopg
import trio

from blobstore import Inline
from blobstore.postgres.ids import new_id
from pgflow_events import EmbeddedServer, Settings, Worker
from pgflow_events.bench import tables as queries
from pgflow_events.bench.flows import FLOWS
from pgflow_events.bench.measured import Measured, rate, scaled
from pgflow_events.bench.scenarios.drain import waiting
from pgflow_events.core.flows import define_flow
from pgflow_events.core.runs import start_flows, start_flows_and_notify
from pgflow_events.core.waking import notify_owed
from pgflow_events.embedded.programs import Programs, find_binaries
from pgflow_events.postgres.connection import Connection
from pgflow_events.schema.migrations import migrate
from tests.bench.scenarios.growth import claim_and_complete

FLOW = "bench_slow_disk"
CLIENTS, BATCH, RUNS, STARTS = 16, 5, 4_000, 1_000
FEW, LARGE = 4, 20  # workers with as many slots in all
DELAYS = (1, 5)  # ms
SOURCE = Path(__file__).with_name("slow_fsync.c")

NOTIFYING = """
create function pgflow_bench.notify() returns trigger language plpgsql as
  $$ begin perform pg_notify('pgflow_bench', ''); return null; end $$;
create trigger bench_notify after update on pgflow.step_tasks
for each statement execute function pgflow_bench.notify();
"""

FSYNCS = "select sum(fsyncs)::float8 from pg_stat_io where object = 'wal'"

Work = Callable[[str], Awaitable[None]]
Start = Callable[[Connection, str, Sequence[Inline], Sequence[UUID]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Way:
    """What some clients do at once."""

    clients: int
    batch: int
    """Tasks that a client settles at once, at most."""
    work: Work


async def slow_disk(_: str) -> list[Measured]:
    """Completions and starts a second of 16 clients, where each wait for the disk is longer.

    By 1 ms and by 5 ms. The clients call `complete_tasks` and `claim_tasks` for 5 tasks at once, or
    are workers with 5 slots, or 4 workers with 20, or start runs one by one. Beside it is the same
    with a trigger that notifies in the commit. The floor are as many clients by hand on a plain
    table, with as many tasks at once.
    """
    return [measured for delay in DELAYS for measured in await on_slow_disk(delay)]


async def on_slow_disk(delay: int) -> list[Measured]:
    """All ways, on a server of their own."""
    ways = {
        f"{CLIENTS} calls": Way(CLIENTS, BATCH, calls),
        f"{CLIENTS} workers": Way(CLIENTS, BATCH, partial(work, slots=BATCH)),
        f"{FEW} workers of {LARGE} slots": Way(FEW, LARGE, partial(work, slots=LARGE)),
    }
    with slow_server(delay) as server:
        dsn = server.dsn
        async with await Connection.connect(dsn) as connection:
            await migrate(connection)
        with psycopg.connect(dsn, autocommit=True) as plain:
            queries.prepare(plain)
            floor = {name: await by_hand(dsn, way) for name, way in ways.items()}
            quiet = {name: await completed(dsn, way) for name, way in ways.items()}
            plain.execute(NOTIFYING)
            loud = {name: await completed(dsn, way) for name, way in ways.items()}
        starts = await starting(dsn, f"{delay} ms, {CLIENTS} that start")
    completions = [
        Measured(
            setting=f"{delay} ms, {name}",
            unit="tasks/s",
            ours=quiet[name],
            floor=floor[name],
            beside={"NOTIFY in the commit": loud[name]},
        )
        for name in ways
    ]
    return [*completions, starts]


async def starting(dsn: str, setting: str) -> Measured:
    """Runs a second that clients start, each on a connection of its own, one after the other."""
    ways = (start_flows_and_notify, start_flows, insert)
    ours, loud, floor = [await started(dsn, way) for way in ways]
    beside = {"NOTIFY in the commit": loud}
    return Measured(setting=setting, unit="runs/s", ours=ours, floor=floor, beside=beside)


async def started(dsn: str, start: Start) -> dict[str, float]:
    """The same, this way."""
    numbers = iter(range(scaled(STARTS)))

    async def client() -> None:
        async with await Connection.connect(dsn) as connection:
            for _ in numbers:
                await start(connection, FLOW, [Inline(b"1")], [new_id()])

    async with await Connection.connect(dsn) as connection:
        await define_flow(connection, FLOWS[FLOW](FLOW).definition())
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(CLIENTS):
            nursery.start_soon(client)
    return rate(scaled(STARTS), time.perf_counter() - began)


async def insert(connection: Connection, *_: object) -> None:
    """By hand: a row."""
    await queries.run(connection, queries.ADD_JOBS, 1)


@contextmanager
def slow_server(delay: int) -> Iterator[EmbeddedServer]:
    """A server whose disk takes so many milliseconds more."""
    with tempfile.TemporaryDirectory(prefix="pgflow-slow-") as folder:
        binaries = slow_binaries(Path(folder), delay)
        with (
            tempfile.TemporaryDirectory(prefix="pgflow-bench-") as data,
            EmbeddedServer(
                Path(data), binaries=binaries, settings={"max_connections": "200"}
            ) as server,
        ):
            yield server


def slow_binaries(folder: Path, delay: int) -> Path:
    """Make a folder of PostgreSQL's programs of which the server is slowed down."""
    folder.chmod(0o755)  # the server may run as another user
    library = folder / "slow_fsync.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, SOURCE, "-ldl"], check=True)
    # The embedded server keeps its environment clean: this has to come in between.
    preload = f"env LD_PRELOAD={library} BENCH_FSYNC_US={delay * 1000}"
    real = Programs(find_binaries()).binaries
    for program, prefix in (("postgres", preload), ("initdb", "")):
        script = folder / program
        script.write_text(f'#!/bin/sh\nexec {prefix} "{real / program}" "$@"\n')
        script.chmod(0o755)
    return folder


async def completed(dsn: str, way: Way) -> dict[str, float]:
    """Tasks a second that get done this way, and how often the server waited for the disk."""
    async with waiting(dsn, FLOW, scaled(RUNS)) as queue, await Connection.connect(dsn) as ear:
        before = await fsyncs(ear)
        async with trio.open_nursery() as nursery:
            for _ in range(way.clients):
                nursery.start_soon(way.work, dsn)
            await queue.done()
            nursery.cancel_scope.cancel()
        seconds = await queue.seconds()
        waits = {"fsyncs/s": (await fsyncs(ear) - before) / seconds} if before else {}
        return {**rate(scaled(RUNS), seconds), **waits}


async def fsyncs(connection: Connection) -> float:
    """How often the log was written to the disk, as PostgreSQL 18 tells; 0 before that."""
    if connection.info.server_version < 180000:
        return 0
    found: float = await queries.find(connection, FSYNCS)
    return found


async def calls(dsn: str) -> None:
    """A client that calls what a worker calls."""
    async with await Connection.connect(dsn) as connection:
        await claim_and_complete(connection, FLOW, BATCH, notify)


async def notify(connection: Connection, tasks: list[str], runs: list[str]) -> None:
    """Wake who has to be woken, after the commit."""
    if tasks or runs:
        await notify_owed(connection, tasks, runs)


async def work(dsn: str, slots: int) -> None:
    """A worker."""
    await Worker([FLOWS[FLOW](FLOW)], dsn, settings=Settings(slots=slots, connections=2)).run()


async def by_hand(dsn: str, way: Way) -> dict[str, float]:
    """Jobs a second of a plain table, which as many clients do, as many at once."""
    async with await Connection.connect(dsn) as connection:
        await connection.execute(queries.CLEAR_JOBS)
        await queries.run(connection, queries.ADD_JOBS, scaled(RUNS))
        async with trio.open_nursery() as nursery:
            for _ in range(way.clients):
                nursery.start_soon(jobs, dsn, way.batch)
        return rate(scaled(RUNS), await queries.find(connection, queries.JOBS_TIME))


async def jobs(dsn: str, batch: int) -> None:
    """Do jobs until none are left."""
    async with await Connection.connect(dsn) as connection:
        taken = await queries.work_jobs(connection, [], batch)
        while taken:
            taken = await queries.work_jobs(connection, [n for n, _ in taken], batch)
