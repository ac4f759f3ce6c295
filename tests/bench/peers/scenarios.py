"""What is measured. A list of figures is pooled over the rounds, a number is one of each round."""

import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import trio

from tests.bench.peers.catalog import Peer, Setting
from tests.bench.peers.databases import Counters, Database
from tests.bench.peers.programs import Program, complete, cpu_seconds, running

WARM = 5
POLL = 0.01
PATIENCE = 4.0  # seconds after which no further run of a slow peer is begun

Figures = dict[str, float | list[float]]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much of each is measured in a round."""

    wakes: int = 40
    chains: int = 15
    payloads: Mapping[str, int] = field(default_factory=lambda: {"3 MB": 4, "20 MB": 2})
    pages: int = 200
    idle: float = 30.0
    scale: float = 1.0

    def scaled(self, count: int) -> int:
        """A count, as much larger or smaller as is wanted."""
        return max(2, round(count * self.scale))


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One measurement of one peer with one of its settings."""

    peer: Peer
    setting: Setting
    command: list[str]
    order: dict[str, Any]
    database: Database
    sizes: Sizes
    log: Path

    async def set_up(self) -> None:
        """Have its program make what it needs in the database."""
        await complete(self.command, self._order_for("setup", "setup"), self.log)

    @asynccontextmanager
    async def program(self, role: str, scenario: str, **more: str) -> AsyncIterator[Program]:
        """Its program in one of the roles."""
        async with running(
            self.command, self._order_for(role, scenario) | more, self.log
        ) as program:
            yield program

    def _order_for(self, role: str, scenario: str) -> dict[str, Any]:
        return self.order | {
            "role": role,
            "scenario": scenario,
            "dsn": self.database.dsn,
            "url": self.database.url,
            "options": self.setting.options,
        }

    @asynccontextmanager
    async def pair(self, scenario: str, **more: str) -> AsyncIterator[tuple[Program, Program]]:
        """A worker that works, and who enqueues for it."""
        async with (
            self.program("work", scenario, **more) as worker,
            self.program("enqueue", scenario, **more) as producer,
        ):
            await worker.say(go=True)
            yield worker, producer

    async def done(self) -> tuple[float, int]:
        """Wait until all work is done in the database; when it was, and how often it was asked."""
        asked = 0
        with psycopg.connect(self.database.dsn, autocommit=True) as connection:
            while True:
                ((unfinished,),) = connection.execute(self.peer.unfinished).fetchall()
                asked += 1
                if not unfinished:
                    return time.monotonic(), asked
                await trio.sleep(POLL)


async def wake(stage: Stage) -> Figures:
    """From right before a job is enqueued to the start of its handler in an idle worker."""
    async with stage.pair("wake") as (worker, producer):
        return await one_by_one(stage, worker, producer, stage.sizes.wakes)


async def one_by_one(stage: Stage, worker: Program, producer: Program, count: int) -> Figures:
    """From right before each is enqueued until its handler says it started.

    Each comes at a random moment between the looks for work of those who look.
    """
    times: list[float] = []
    calls: list[float] = []
    gap = (0.01, 0.03 + stage.setting.poll)
    deadline = time.monotonic() + PATIENCE
    for number in range(WARM + stage.sizes.scaled(count)):
        sent, took = await producer.enqueue_one(number, gap)
        started = await worker.gather("started", [number])
        times.append((started[number]["at"] - sent) * 1e3)
        calls.append(took * 1e3)
        if time.monotonic() > deadline:
            break
    opening = min(WARM, len(times) // 3)  # the first ones opened connections
    return {"ms": times[opening:], "of these, to enqueue, ms": calls[opening:]}


async def drain(stage: Stage) -> Figures:
    """Waiting jobs that one worker process, and two, get done in a second."""
    count = stage.sizes.scaled(stage.setting.jobs)
    rate, cost = await drained(stage, "drain", count, 1)
    both, _ = await drained(stage, "drain", count, 2)
    return {
        "jobs/s": rate,
        "jobs/s, 2 processes": both,
        "transactions a job": cost.transactions / count,
        "WAL bytes a job": cost.wal / count,
    }


async def drained(
    stage: Stage, scenario: str, count: int, processes: int
) -> tuple[float, Counters]:
    """Enqueue, then work: how many a second, and what that cost without the enqueueing."""
    async with stage.program("enqueue", scenario) as producer:
        await producer.enqueue(range(count))
    await stage.database.left()
    before = stage.database.counters()
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(stage.program("work", scenario))
            for _ in range(processes)
        ]
        for worker in workers:
            await worker.say(go=True)
        began = await first_start(workers)
        ended, asked = await stage.done()
    await stage.database.left()
    cost = stage.database.counters() - before
    return count / (ended - began), Counters(cost.transactions - asked, cost.wal, cost.size)


async def first_start(workers: list[Program]) -> float:
    """When the first handler of any of them started."""
    starts: list[float] = []
    async with trio.open_nursery() as nursery:

        async def listen(worker: Program) -> None:
            starts.append((await worker.line("started"))["at"])
            nursery.cancel_scope.cancel()

        for worker in workers:
            nursery.start_soon(listen, worker)
    return min(starts)


async def chain(stage: Stage) -> Figures:
    """Four steps, a → b, c → d: one run at a time, and many that wait."""
    async with stage.pair("chain") as (worker, producer):
        idle = await one_by_one(stage, worker, producer, stage.sizes.chains)
        await stage.done()
    rate, cost = await drained(stage, "load", count := stage.sizes.scaled(stage.peer.runs), 1)
    return idle | {
        "runs/s": rate,
        "transactions a run": cost.transactions / count,
        "WAL bytes a run": cost.wal / count,
    }


async def payload(stage: Stage) -> Figures:
    """Pages of 3 and 20 MB from the end of a handler to the start of the next."""
    figures: Figures = {}
    for size, runs in stage.sizes.payloads.items():
        times, cost = await passed_on(stage, stage.order["large"][size], runs)
        figures |= {
            f"{size}, ms": times,
            f"{size}, bytes stored": cost.size / len(times),
            f"{size}, WAL bytes": cost.wal / len(times),
        }
    return figures


async def passed_on(stage: Stage, page: str, runs: int) -> tuple[list[float], Counters]:
    """Runs that pass a page on, one after the other."""
    times: list[float] = []
    async with stage.pair("payload", page=page) as (worker, producer):
        deadline = time.monotonic() + PATIENCE
        before = stage.database.counters()
        for number in range(runs + 1):
            await producer.enqueue_one(number, (0, stage.setting.poll))
            left = await worker.gather("left", [number])
            arrived = (await worker.gather("arrived", [number]))[number]
            if not arrived["equal"]:
                raise ValueError("the page did not arrive as it left")
            times.append((arrived["at"] - left[number]["at"]) * 1e3)
            await stage.done()
            if number == 0:
                before = stage.database.counters()
            elif time.monotonic() > deadline:
                break
        return times[1:], stage.database.counters() - before


async def small(stage: Stage) -> Figures:
    """What a run of two steps costs that passes a page of 5 kB."""
    async with stage.pair("small") as (_, producer):
        await producer.enqueue(range(2 * WARM))
        await stage.done()
        before = stage.database.counters()
        count = stage.sizes.scaled(stage.sizes.pages)
        await producer.enqueue(range(2 * WARM, 2 * WARM + count))
        await stage.done()
        cost = stage.database.counters() - before
    return {"bytes stored": cost.size / count, "WAL bytes": cost.wal / count}


async def idle(stage: Stage) -> Figures:
    """What an idle worker sends, the CPU it takes, and its connections."""
    async with stage.program("work", "idle") as worker:
        await worker.say(go=True)
        await trio.sleep(5)
        sent, cpu, began = stage.database.statements(), cpu_seconds(worker.pid), time.monotonic()
        await trio.sleep(stage.sizes.idle)
        seconds = time.monotonic() - began
        figures: Figures = {
            "statements a minute": (stage.database.statements() - sent) / seconds * 60,
            "connections": stage.database.sessions(),
        }
        if sys.platform == "linux":
            figures["CPU %"] = (cpu_seconds(worker.pid) - cpu) / seconds * 100
        return figures


SCENARIOS: dict[str, Callable[[Stage], Awaitable[Figures]]] = {
    "wake": wake,
    "drain": drain,
    "chain": chain,
    "payload": payload,
    "small": small,
    "idle": idle,
}
