"""Worker processes that are replaced as soon as they end."""

import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import trio

from pgflow_events import Settings, Worker
from pgflow_events.postgres.pool import Pool
from tests.torture.commands import command, log_to
from tests.torture.flows import FLOWS
from tests.torture.journal import Journal

# A stop too short for some handlers: they are given back. And a grace too short for some peers
# after a crash: they are buried alive.
SETTINGS = Settings(slots=16, connections=3, stop_timeout=0.2, grace=0.1)

# Each process is forked from one that has imported all this, which takes most of the time.
processes = get_context("forkserver")
processes.set_forkserver_preload([__name__])


def work(dsn: str, folder: Path, _: int) -> None:
    """What a process does: run a worker until a signal says otherwise."""
    log_to(folder, "workers.log")
    logging.basicConfig(
        level=logging.WARNING, format=f"%(asctime)s {os.getpid()} %(name)s: %(message)s"
    )

    @asynccontextmanager
    async def resources() -> AsyncIterator[dict[str, Any]]:
        async with Pool(dsn, max_size=2) as pool:
            yield {"journal": Journal(folder), "pool": pool}

    async def main() -> None:
        await Worker(FLOWS, dsn, settings=SETTINGS, resources=resources, hooks=()).run(signals=True)

    trio.run(main)


def work_as_command(dsn: str, folder: Path, slots: int, _: int) -> None:
    """What a process does: the same, as the command does it."""
    os.environ["PGFLOW_DSN"] = dsn
    options = ["--slots", str(slots), "--connections", "3", "--stop-timeout", "0.2"]
    options += ["--resources", "tests.torture.commands:resources", "--log-level", "warning"]
    command(folder, "workers.log", "worker", "tests.torture.flows", *options)


class Crew:
    """Processes, each in a place of its own that is never empty for long.

    Args:
        folder: Where their logs and journals are.
        workers: How many of the first places are those of workers.

    Attributes:
        targets: What is done in each place: a function that is called with its own number.
        gone: Whether the last ones have ended.
        unexpected: Exit codes of processes that ended and were not told to.
        left: The exit codes of workers that were told to leave, by their pids.
    """

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder = folder
        self.workers = workers
        self.targets: Sequence[Callable[[int], None]] = ()
        self._places: dict[int, ForkServerProcess] = {}
        self._started = count()
        self._stopped: set[int] = set()
        self._told: set[int] = set()
        self._ending: set[int] = set()
        self._leaving = False
        self.gone = trio.Event()
        self.unexpected: list[int | None] = []
        self.left: dict[int, int | None] = {}

    async def run(self) -> None:
        """Keep the places filled, until told to leave."""
        async with trio.open_nursery() as nursery:
            for place in range(len(self.targets)):
                nursery.start_soon(self._fill, place)
        self.gone.set()

    async def _fill(self, place: int) -> None:
        while not self._leaving:
            target = self.targets[place]
            process = processes.Process(target=target, args=[next(self._started)])
            await trio.to_thread.run_sync(process.start)
            self._places[place] = process
            if self._leaving:  # it was told before it was there
                self._dismiss(process)
            await trio.lowlevel.wait_readable(process.sentinel)
            del self._places[place]
            process.join()
            assert process.pid
            if process.pid not in self._ending:
                self.unexpected.append(process.exitcode)
            if process.pid in self._told and place < self.workers:
                self.left[process.pid] = process.exitcode
            self._stopped.discard(process.pid)
            self._ending.discard(process.pid)

    def signal(self, name: str, where: float) -> int | None:
        """Send a signal to one of those at work; its pid. None, if there is none."""
        at_work = [
            process.pid
            for process in self._places.values()
            if process.pid not in self._ending
            # To stop one twice is to stop it once.
            and (name == "SIGKILL" or process.pid not in self._stopped)
        ]
        if not at_work:
            return None
        pid = at_work[int(where * len(at_work))]
        assert pid
        if name == "SIGSTOP":
            self._stopped.add(pid)
        else:
            self._ending.add(pid)
            (self._told.add if name == "SIGTERM" else self._told.discard)(pid)
        send(pid, signal.Signals[name])
        return pid

    def go_on(self, pid: int) -> None:
        """Let a worker that was stopped go on, if it is there."""
        if pid in self._stopped:
            self._stopped.remove(pid)
            send(pid, signal.SIGCONT)

    def leave(self) -> None:
        """Tell all to end, in order; :meth:`run` returns when they have."""
        self._leaving = True
        for process in self._places.values():
            self._dismiss(process)

    def _dismiss(self, process: ForkServerProcess) -> None:
        assert process.pid
        self.go_on(process.pid)
        self._ending.add(process.pid)
        self._told.add(process.pid)
        send(process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Leave nothing behind, whatever happened."""
        self._leaving = True
        for process in self._places.values():
            assert process.pid
            self._told.discard(process.pid)
            process.kill()


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal, if the process has not ended meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
