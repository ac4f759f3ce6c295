"""A value far larger than memory from one step to the next: speed, and memory on both sides.

The bytes cannot be compressed. Worker and client are in a process of their own; of the server's
processes the largest counts, with the shared buffers it has touched.
"""

import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import trio

from blobstore import Blob
from pgflow_events import Flow, Worker, connect
from pgflow_events.bench.measured import Measured
from tests.bench.measuring import in_process

GIB = 1024**3
MIB = 1024**2
SIZE = int(float(os.environ.get("BENCH_STREAM_GIB", "1")) * 1024) * MIB

BACKENDS = "select pid from pg_stat_activity where datname = current_database()"


async def stream(dsn: str) -> list[Measured]:
    """A value of 1 GiB (BENCH_STREAM_GIB) from one step to the next: speed, and peak memory."""
    with largest_backend(dsn) as peak:
        seconds, resident = await in_process(pass_on, dsn, SIZE)
    return [
        Measured(
            setting=f"{SIZE / GIB:.3g} GiB",
            unit="MiB/s",
            ours={
                "rate": SIZE / MIB / seconds,
                "worker's peak RSS, MiB": resident / MIB,
                "largest backend's peak RSS, MiB": peak.size / MIB,
            },
        )
    ]


def pass_on(dsn: str, size: int) -> tuple[float, int]:
    """Run the flow; seconds, and the most memory that this process had."""
    flow = Flow("bench_stream", input=int, timeout=3600)

    @flow.step(flow.input)
    async def download(run: int) -> AsyncIterator[bytes]:
        block = os.urandom(MIB)
        for number in range(run // MIB):
            yield number.to_bytes(8) + block[8:]

    @flow.step(download.blob)
    async def count(content: Blob[bytes]) -> int:
        length = 0
        async with content.open() as opened:
            async for piece in opened:
                length += len(piece)
        return length

    async def main() -> float:
        async with trio.open_nursery() as nursery, connect(dsn) as client:
            await nursery.start(Worker([flow], dsn).run)
            began = time.perf_counter()
            run = await client.start(flow, size)
            assert await run.output(count) == size
            seconds = time.perf_counter() - began
            nursery.cancel_scope.cancel()
        return seconds

    return trio.run(main), peak_of(os.getpid())


def peak_of(pid: int, figure: str = "VmHWM:") -> int:
    """The most memory that a process had, in bytes, or another figure of Linux."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(figure):
            return int(line.split()[1]) * 1024
    return 0


@dataclass
class Peak:
    """The most memory that any of some processes had."""

    size: int = 0


@contextmanager
def largest_backend(dsn: str) -> Iterator[Peak]:
    """Watch the server's processes of this database."""
    peak, done = Peak(), threading.Event()

    def watch() -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            while not done.wait(0.05):
                for (pid,) in connection.execute(BACKENDS).fetchall():
                    with suppress(OSError):
                        peak.size = max(peak.size, peak_of(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
