"""Maps, which have a task for each element of a list: time, memory, and what other flows feel."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import psycopg
import trio

from blobstore import Blob
from pgflow_events import Flow, Worker, connect
from pgflow_events.bench.measured import Measured, latencies, percentile, scaled
from pgflow_events.bench.scenarios.wake import FLOW, Starter, idle_worker, starter
from pgflow_events.bench.tables import START_RUN
from tests.bench.cpu import postmaster_of, server_cpu
from tests.bench.measuring import html, in_process, progress
from tests.bench.scenarios.stream import MIB, largest_backend, peak_of

FEW, FEW_SIZE, FEW_RUNS = 200, 50_000, 5
LARGE, LARGE_SIZE = 10_000, 100_000
MANY, MANY_SIZE = 100_000, 100
WAKES = 200
TEXT = 2 * MIB  # of HTML, from which pages are cut


async def maps(dsn: str) -> list[Measured]:
    """Maps of 200 pages of 50 kB, of 100,000 lines, and of 10,000 pages of 100 kB, a worker each.

    While the lines pass, an idle worker of another flow is woken. The floor is the same without
    the map.
    """
    return [await few(dsn), *await many(dsn), await large(dsn)]


async def few(dsn: str) -> Measured:
    """Seconds from the start to the end of runs whose steps all pass pages of 50 kB."""
    progress(f"maps of {scaled(FEW)} pages")
    seconds = await in_process(pass_pages, dsn, html(TEXT), scaled(FEW))
    return Measured(
        setting=f"{scaled(FEW)} of {FEW_SIZE // 1000} kB",
        unit="s",
        ours={"p50": percentile(seconds, 0.5), "p99": max(seconds)},
    )


async def large(dsn: str) -> Measured:
    """The memory of a worker that makes and reads the pages, and of the largest backend."""
    progress(f"a map of {scaled(LARGE):,} pages")
    with largest_backend(dsn) as peak:
        seconds, resident = await in_process(make_pages, dsn, html(TEXT), scaled(LARGE))
    return Measured(
        setting=f"{scaled(LARGE):,} of {LARGE_SIZE // 1000} kB",
        unit="tasks/s",
        ours={
            "rate": 2 * scaled(LARGE) / seconds,
            "worker, MiB": resident / MIB,
            "backend, MiB": peak.size / MIB,
        },
    )


async def many(dsn: str) -> list[Measured]:
    """Tasks a second, and how soon an idle worker of another flow is woken meanwhile."""
    async with starter(dsn) as start, idle_worker(dsn) as started:
        wakes = Wakes(start, started)
        await wakes.add(lambda: len(wakes.seconds) >= scaled(WAKES))
        alone = latencies(list(wakes.seconds.values()))
        progress(f"a map of {scaled(MANY):,} lines")
        passed: list[Passed] = []

        async def work() -> None:
            passed.append(await in_process(pass_lines, dsn, scaled(MANY)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await wakes.add(lambda: bool(passed))
    (lines,) = passed
    setting = f"{scaled(MANY):,} of {MANY_SIZE} B"
    meanwhile = [took for at, took in wakes.seconds.items() if lines.began <= at <= lines.ended]
    waking = Measured(
        setting="another flow meanwhile",
        unit="ms",
        ours=latencies(meanwhile) if meanwhile else {},
        floor=alone,
    )
    return [Measured(setting=setting, unit="tasks/s", ours=lines.figures(scaled(MANY))), waking]


class Passed(NamedTuple):
    """When the list was there, when the map had ended, and the seconds of CPU for all of it."""

    began: float
    ended: float
    worker_cpu: float
    server_cpu: float

    def figures(self, count: int) -> dict[str, float]:
        """The rate, and the CPU for a task."""
        return {
            "rate": count / (self.ended - self.began),
            "worker CPU, us": self.worker_cpu / count * 1e6,
            "server CPU, us": self.server_cpu / count * 1e6,
        }


@dataclass
class Wakes:
    """Wakes an idle worker again and again.

    Attributes:
        seconds: By the time of each COMMIT, how long it took until the handler started.
    """

    start: Starter
    started: trio.MemoryReceiveChannel[float]
    seconds: dict[float, float] = field(default_factory=dict)

    async def add(self, enough: Callable[[], bool]) -> None:
        """Wake the worker ten times, and go on until it is enough."""
        while not enough():
            sent = await self.start(START_RUN, [(FLOW, n) for n in range(10)])
            self.seconds |= {at: await self.started.receive() - at for at in sent}


def page(text: str, size: int, number: int) -> str:
    """A page that is like no other."""
    at = number * 50_021 % (len(text) - size)
    return f"{number:08}{text[at + 8 : at + size]}"


async def run_once(dsn: str, flow: Flow[int], count: int, runs: int = 1) -> list[float]:
    """Seconds of each run, one after the other. If there are several, the first one warms up."""
    seconds = []
    async with trio.open_nursery() as nursery, connect(dsn) as client:
        worker = Worker([flow], dsn)
        await nursery.start(worker.run)
        for _ in range(runs):
            began = time.perf_counter()
            await (await client.start(flow, count)).result()
            seconds.append(time.perf_counter() - began)
        worker.stop()
    return seconds[1:] or seconds


def pass_pages(dsn: str, text: str, count: int) -> list[float]:
    """Give pages to a map, which gives them to a reader."""
    flow = Flow("bench_map_few", input=int)

    @flow.step(flow.input)
    def make(count: int) -> list[str]:
        return [page(text, FEW_SIZE, number) for number in range(count)]

    @flow.step(make.each)
    async def each(page: str) -> str:
        return page

    @flow.step(each.blob)
    async def read(texts: Blob[list[str]]) -> int:
        return sum([len(text) async for text in texts.items()])

    return trio.run(run_once, dsn, flow, count, 1 + FEW_RUNS)


def make_pages(dsn: str, text: str, count: int) -> tuple[float, int]:
    """Make pages in a map, and read them in another; seconds, and the process's peak of memory."""
    flow = Flow("bench_map_large", input=int)

    @flow.step(flow.input)
    async def number(count: int) -> list[int]:
        return list(range(count))

    @flow.step(number.each)
    async def make(number: int) -> str:
        return page(text, LARGE_SIZE, number)

    @flow.step(make.each)
    async def read(page: str) -> int:
        return len(page)

    @flow.step(read)
    async def total(lengths: list[int]) -> int:
        return sum(lengths)

    (seconds,) = trio.run(run_once, dsn, flow, count)
    return seconds, peak_of(os.getpid())


def pass_lines(dsn: str, count: int) -> Passed:
    """Give lines to a map."""
    flow = Flow("bench_map_many", input=int)
    times = list[float]()

    @flow.step(flow.input)
    def make(count: int) -> list[str]:
        lines = [f"{number:0{MANY_SIZE}}" for number in range(count)]
        times.append(time.monotonic())
        return lines

    @flow.step(make.each)
    async def each(line: str) -> str:
        return line

    @flow.step(each.blob)
    async def end(lines: Blob[list[str]]) -> int:
        times.append(time.monotonic())
        return lines.length or 0

    with psycopg.connect(dsn, autocommit=True) as connection:
        postmaster = postmaster_of(connection)
    server, worker = server_cpu(postmaster) if postmaster else 0.0, time.process_time()
    trio.run(run_once, dsn, flow, count)
    worker = time.process_time() - worker
    server = server_cpu(postmaster) - server if postmaster else 0.0
    return Passed(*times, worker, server)
