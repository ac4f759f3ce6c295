"""Runs that pass large texts through threads, twelve at a time: what memory the worker takes.

A worker fixes the size from which on glibc maps a block by itself. Beside it: what glibc does if
nothing is fixed, and other settings.
"""

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from pgflow_events import Flow, Settings, Worker, connect
from pgflow_events.bench.measured import Measured, scaled
from tests.bench.measuring import in_process
from tests.bench.scenarios.stream import MIB, peak_of

RUNS = 48
AT_ONCE = 12
SIZES = (8, 2)  # MiB of a text
# What says something of malloc keeps the worker from it; this says what holds anyway.
AS_IT_COMES = {"MALLOC_ARENA_TEST": "8"}
BESIDE = {
    "glibc as it comes": AS_IT_COMES,
    "1 arena": {"MALLOC_ARENA_MAX": "1"},
    "2 arenas": {"MALLOC_ARENA_MAX": "2"},
    "trimmed at 128 KiB": {"MALLOC_TRIM_THRESHOLD_": "131072"},
    "mapped from 128 KiB": {"MALLOC_MMAP_THRESHOLD_": "131072"},
    "mapped from 4 MiB": {"MALLOC_MMAP_THRESHOLD_": "4194304"},
}


async def memory(dsn: str) -> list[Measured]:
    """Peak memory of a worker, and its speed, by what is set of malloc."""
    return [
        Measured(
            setting=f"texts of {size} MiB",
            unit="",
            ours=await measure(dsn, size, {}),
            beside={name: await measure(dsn, size, settings) for name, settings in BESIDE.items()},
        )
        for size in SIZES
    ]


async def measure(dsn: str, size: int, settings: dict[str, str]) -> dict[str, float]:
    """The figures of a worker in a process that starts with these variables."""
    with environment(settings):
        peak, rest, seconds, cpu = await in_process(work, dsn, size)
    return {
        "peak RSS, MiB": peak / MIB,
        "RSS afterwards, MiB": rest / MIB,
        "runs/s": scaled(RUNS) / seconds,
        "CPU, ms/run": cpu / scaled(RUNS) * 1000,
    }


@contextmanager
def environment(settings: dict[str, str]) -> Iterator[None]:
    """What processes find that are started meanwhile."""
    os.environ.update(settings)
    try:
        yield
    finally:
        for name in settings:
            del os.environ[name]


def work(dsn: str, size: int) -> tuple[int, int, float, float]:
    """Complete the runs; the peak of memory, what is left of it, seconds, and those of CPU."""
    flow = Flow("bench_memory", timeout=600)

    @flow.step()
    def first() -> str:
        return secrets.token_hex(size * MIB // 2)

    @flow.step(first)
    def second(text: str) -> str:
        return text[::-1]

    @flow.step(second)
    def length(text: str) -> int:
        return len(text)

    async def main() -> float:
        async with trio.open_nursery() as nursery, connect(dsn) as client:
            await nursery.start(Worker([flow], dsn, settings=Settings(slots=AT_ONCE)).run)
            limit = trio.CapacityLimiter(AT_ONCE)

            async def run_one() -> None:
                async with limit:
                    await (await client.start(flow, None)).result()

            began = time.perf_counter()
            async with trio.open_nursery() as runs:
                for _ in range(scaled(RUNS)):
                    runs.start_soon(run_one)
            seconds = time.perf_counter() - began
            nursery.cancel_scope.cancel()
        return seconds

    cpu, seconds = time.process_time(), trio.run(main)
    cpu = time.process_time() - cpu
    return peak_of(os.getpid()), peak_of(os.getpid(), "VmRSS:"), seconds, cpu
