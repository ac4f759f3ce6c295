"""Idle workers of one flow in a few processes, any of which may be stopped or killed.

As a program it is one of these processes. Each worker has one slot. A handler says that it has
started; if its run is less than 0, it then holds its slot until the process is told to release it.
"""

import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import trio

from pgflow_events import Flow, PgflowError, Settings, Worker
from pgflow_events.service import child

FLOW = "bench_workers"
MODULE = "tests.bench.herd"
PROCESSES = 4
HOLD = -1  # the run that holds its slot


class Herd:
    """The processes. What handlers say comes with the process that said it.

    Args:
        dsn: The database.
        workers: How many workers there are in all.
    """

    def __init__(self, dsn: str, workers: int) -> None:
        self._dsn = dsn
        processes = min(workers, PROCESSES)
        self._shares = [workers // processes] * processes
        self._members: dict[int, child.Child] = {}
        self._killed: set[int] = set()
        self._say, self._said = trio.open_memory_channel[tuple[int, float]](1000)
        self._complete = trio.Event()

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Start all, and end them after the block."""
        async with trio.open_nursery() as nursery:
            for share in self._shares:
                nursery.start_soon(self._keep, share)
            await self.complete()
            yield
            nursery.cancel_scope.cancel()

    async def _keep(self, share: int) -> None:
        """Run a process; another one, if it was killed."""
        while True:
            pid = 0
            try:
                order = {"dsn": self._dsn, "workers": share}
                async with child.start(MODULE, order) as member:
                    pid = await member.receive()
                    while True:
                        # A handler may start before all workers of the process are there.
                        began = await member.receive()
                        if began is None:
                            self._members[pid] = member
                            if len(self._members) == len(self._shares):
                                self._complete.set()
                        else:
                            self._say.send_nowait((pid, began))
            except PgflowError:
                if pid not in self._killed:
                    raise
            finally:
                self._members.pop(pid, None)

    async def complete(self) -> None:
        """Return when all processes are there."""
        await self._complete.wait()

    async def handler(self) -> tuple[int, float]:
        """The next handler that starts: its process, and when."""
        return await self._said.receive()

    async def release(self) -> None:
        """Let handlers end that hold their slots."""
        for member in self._members.values():
            await member.send("release")

    @contextmanager
    def stopped(self, pid: int) -> Iterator[None]:
        """Stop a process for the block."""
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def kill(self, pid: int) -> None:
        """Kill a process; another one takes its place. See :meth:`complete`."""
        self._complete = trio.Event()
        self._killed.add(pid)
        self._members.pop(pid)
        os.kill(pid, signal.SIGKILL)


async def work(dsn: str, workers: int) -> None:
    """What a process does."""
    flow, released = Flow(FLOW, input=int), [trio.Event()]

    @flow.step(flow.input)
    async def only(run: int) -> int:
        child.send(time.monotonic())
        if run < 0:
            await released[-1].wait()
        return run

    child.send(os.getpid())
    async with trio.open_nursery() as nursery:
        settings = Settings(slots=1, connections=1)
        for _ in range(workers):
            await nursery.start(Worker([flow], dsn, settings=settings, hooks=[]).run)
        child.send(None)  # all are there
        while await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            released[-1].set()
            released.append(trio.Event())
        nursery.cancel_scope.cancel()


def main() -> None:
    """Be one of the processes, as the first message orders."""
    order: dict[str, Any] = child.receive()
    trio.run(lambda: work(**order))


if __name__ == "__main__":
    main()
