"""A worker of the command line that is told to leave, and waits for less long than it should."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import trio

FLOWS = Path(__file__).with_name("leaving_flows.py")
LIMITS = {
    "leaving.GIVE_BACK": 3.0,
    "leaving.TAKE_LEAVE": 2.0,
    "shutdown.HANDLERS_END": 1.5,
    "shutdown.UNTIL_LAST_RESORT": 12.0,
}
ONCE, TWICE = ("SIGTERM",), ("SIGTERM", "SIGTERM")
MIXED, THRICE = ("SIGINT", "SIGTERM"), ("SIGTERM", "SIGINT", "SIGTERM")
STOPPING, AT_ONCE = "finishing the tasks at hand", "leaving at once"


def impatient(last_commit: float) -> str:
    """The command line, with limits of its own."""
    limits = LIMITS | {"worker.LAST_COMMIT": last_commit}
    return "\n".join(
        (
            "from pgflow_events.service import shutdown",
            "from pgflow_events.worker import leaving, worker",
            *(f"{name} = {seconds}" for name, seconds in limits.items()),
            "from pgflow_events.cli import main; main()",
        )
    )


class Leaver:
    """One such process, with a slot and three connections.

    Attributes:
        log: What it has written to stderr so far.
    """

    def __init__(self, dsn: str, hold: str, options: Sequence[str], last_commit: float) -> None:
        arguments = ["worker", FLOWS, "--resources", f"{FLOWS}:resources"]
        arguments += ["--slots", "1", "--connections", "3", *options]
        self._process = subprocess.Popen(
            [sys.executable, "-c", impatient(last_commit), *arguments],
            env=os.environ | {"PGFLOW_DSN": dsn, "LEAVING_HOLD": hold},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._output = b""
        self._errors = b""
        self._news = trio.Condition()
        self._ended = 0

    async def run(self) -> None:
        """Take down what it says."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow, self._process.stdout.fileno(), "_output")
            nursery.start_soon(self._follow, self._process.stderr.fileno(), "_errors")

    async def _follow(self, descriptor: int, where: str) -> None:
        async with trio.lowlevel.FdStream(os.dup(descriptor)) as pipe:
            async for data in pipe:
                setattr(self, where, getattr(self, where) + data)
                async with self._news:
                    self._news.notify_all()
        self._ended += 1
        async with self._news:
            self._news.notify_all()

    @property
    def log(self) -> str:
        return self._errors.decode()

    @property
    def said(self) -> list[str]:
        """The lines of its stdout, but for the one that it is ready."""
        lines = self._output.decode().splitlines()
        return [line for line in lines if not line.startswith("ready")]

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    async def until(self, text: str) -> bool:
        """Return when it has said that, or has ended; whether it has."""
        async with self._news:
            while text.encode() not in self._output + self._errors:
                if self._ended == 2:
                    return False
                await self._news.wait()
        return True

    async def tell(self, *names: str) -> None:
        """Send these signals, each when the one before has been heeded."""
        for name, answer in zip(names, [STOPPING, AT_ONCE, ""], strict=False):
            self.signal(name)
            if not await self.until(answer):
                return

    def signal(self, name: str) -> None:
        """Send a signal, if it is there."""
        self._process.send_signal(getattr(signal, name))

    def go_on(self) -> None:
        """Let what holds go on."""
        self._process.stdin.close()

    async def end(self) -> int:
        """Wait for its end; the exit code."""
        async with self._news:
            while self._ended < 2:
                await self._news.wait()
        return await trio.to_thread.run_sync(self._process.wait)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.stderr.close()


@pytest.fixture
def leaver(nursery: trio.Nursery) -> Iterator[Callable[..., Leaver]]:
    """Starts one; killed when the test ends, if it is there."""
    with ExitStack() as stack:

        def start(dsn: str, hold: str = "", *options: str, last_commit: float = 0.3) -> Leaver:
            made = Leaver(dsn, hold, options, last_commit)
            stack.callback(made.kill)
            nursery.start_soon(made.run)
            return made

        yield start
