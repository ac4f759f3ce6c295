"""Peers' programs as processes: lines in, lines out, and a sure end."""

import json
import math
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import trio

GRACE = 1.0  # seconds to leave after SIGTERM

Line = dict[str, Any]


class Ended(Exception):
    """A program ended that should not."""


class Program:
    """A running program of a peer."""

    def __init__(
        self, process: trio.Process, lines: trio.MemoryReceiveChannel[Line], log: Path
    ) -> None:
        self._process = process
        self._lines = lines
        self._log = log
        self.pid = process.pid

    async def say(self, **line: Any) -> None:
        """Send it a line."""
        assert self._process.stdin
        await self._process.stdin.send_all((json.dumps(line) + "\n").encode())

    async def line(self, event: str) -> Line:
        """The next line that tells of this."""
        async for line in self._lines:
            if line["event"] == event:
                return line
        raise Ended(f"ended with code {await self._process.wait()}: {end_of(self._log)}")

    async def gather(self, event: str, numbers: Collection[int]) -> dict[int, Line]:
        """The lines that tell of this for each of the numbers."""
        found: dict[int, Line] = {}
        while not found.keys() >= set(numbers):
            line = await self.line(event)
            found[line["number"]] = line
        return found

    async def enqueue(self, numbers: range) -> None:
        """Have it enqueue jobs, all at once."""
        await self.say(first=numbers.start, count=len(numbers), gap=None)
        await self.line("sent")

    async def enqueue_one(self, number: int, gap: tuple[float, float]) -> tuple[float, float]:
        """Have it enqueue one after so many seconds; when it was about to, and how long it took."""
        await self.say(first=number, count=1, gap=gap)
        line = await self.line("sent")
        return line["at"][0], line["took"][0]


async def complete(command: list[str], order: Mapping[str, Any], log: Path) -> None:
    """Run a program to its end.

    Raises:
        Ended: It failed.
    """
    with log.open("a") as output:
        done = await trio.run_process(
            [*command, json.dumps(order)], stdout=output, stderr=output, check=False
        )
    if done.returncode:
        raise Ended(f"ended with code {done.returncode}: {end_of(log)}")


@asynccontextmanager
async def running(
    command: list[str], order: Mapping[str, Any], log: Path
) -> AsyncIterator[Program]:
    """Start a program, wait until it is loaded, and end it afterwards."""
    with log.open("a") as errors:
        process = await trio.lowlevel.open_process(
            [*command, json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    sender, receiver = trio.open_memory_channel[Line](math.inf)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, process, sender)
        try:
            program = Program(process, receiver, log)
            await program.line("loaded")
            yield program
        finally:
            await end(process)
            nursery.cancel_scope.cancel()


def end_of(log: Path) -> str:
    """The last that a program said."""
    return log.read_text(errors="replace")[-500:]


async def read(process: trio.Process, lines: trio.MemorySendChannel[Line]) -> None:
    """Pass on the lines that are for us, and drop what the peer prints besides."""
    assert process.stdout
    rest = b""
    with lines:
        async for piece in process.stdout:
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                if line.startswith(b'{"event"'):
                    lines.send_nowait(json.loads(line))


async def end(process: trio.Process) -> None:
    """By SIGTERM, or else by SIGKILL along with the processes it started."""
    with trio.CancelScope(shield=True):
        with trio.move_on_after(GRACE):
            process.terminate()
            await process.wait()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def cpu_seconds(pid: int) -> float:
    """CPU that a process and those it started took so far; known on Linux only, else 0."""
    ticks = 0
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = entry.read_text().rpartition(")")[2].split()
            if int(fields[3]) == pid:  # its session, which it leads
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
