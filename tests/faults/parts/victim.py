"""A worker in a process of its own, there to be killed, and one that goes on for it."""

import logging
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import trio

from pgflow_events import Context, Flow, Settings, Worker
from pgflow_events.core.flows import define_flow
from pgflow_events.postgres.connection import Connection

GIB = 1024**3
BLOCKED = 5.0  # seconds
PAGE = "<p>a long page, " * 20_000

# What one was not told of, it shall not find out by itself.
HOUR = 3600
ONLY_WHEN_TOLD = Settings(slots=1, check_interval=HOUR, grace=HOUR, cache_budget=0)

Note = Callable[[Context], Awaitable[None]]


def pages(note: Note, **options) -> Flow:
    """A step whose output is a blob, and one that reads it; each tells of its attempts.

    The input of a run says how long the page is.
    """
    flow = Flow("pages", **{"timeout": 600, "max_attempts": 5, "base_delay": 0, **options})

    @flow.step(flow.context, flow.input)
    async def page(context: Context, times: int | None) -> str:
        await note(context)
        return PAGE * (times or 1)

    @flow.step(flow.context, page)
    async def length(context: Context, text: str) -> int:
        await note(context)
        return len(text)

    return flow


class Rescuer(Worker):
    """Runs the same flow in this process, and notes what it begins.

    Args:
        dsn: Where.
        hold: Whether its handlers wait to be told to go on.
        listen_dsn: Where to listen, if not there.
        grace: Seconds it must be there to believe in a death that it has not seen.
        **options: Of the flow.
    """

    def __init__(
        self,
        dsn: str,
        *,
        hold: bool = False,
        listen_dsn: str | None = None,
        grace: float = HOUR,
        **options,
    ) -> None:
        self.begun: list[str] = []
        self.has_begun, self.go_on = trio.Event(), trio.Event()
        if not hold:
            self.go_on.set()
        self._flow = pages(self._note, **options)
        settings = replace(ONLY_WHEN_TOLD, listen_dsn=listen_dsn, grace=grace)
        super().__init__([self._flow], dsn, settings=settings)

    async def _note(self, context: Context) -> None:
        self.begun.append(f"{context.step} {context.attempt}")
        self.has_begun.set()
        await self.go_on.wait()

    async def define(self) -> None:
        """Define the flow, before any worker is there."""
        async with await Connection.connect(self._dsn) as connection:
            await define_flow(connection, self._flow.definition())


async def printed(process: "subprocess.Popen[str]", text: str) -> None:
    """Return when it prints this line."""
    while (line := await trio.to_thread.run_sync(process.stdout.readline)) != f"{text}\n":
        assert line, "it has ended"


async def grab() -> None:
    """Ask for more memory than this process may have."""
    bytearray(8 * GIB)


async def block() -> None:
    """Do what a handler that is awaited should not."""
    time.sleep(BLOCKED)  # noqa: ASYNC251


MISDEEDS = {"hang": trio.sleep_forever, "grab": grab, "block": block}


async def main(dsn: str, misdeed: str = "", seconds: str = "600", listen_dsn: str = "") -> None:
    """Work, with attempts of so many seconds.

    Args:
        dsn: Where.
        misdeed: What to do at the first attempt of a step, such as ``hang page``.
        seconds: The timeout of the flow.
        listen_dsn: Where to listen, if not there.
    """
    deed, _, step = misdeed.partition(" ")

    async def note(context: Context) -> None:
        print(context.step, context.attempt, flush=True)  # noqa: T201
        if (context.step, context.attempt) == (step, 1):
            await MISDEEDS[deed]()

    settings = replace(ONLY_WHEN_TOLD, listen_dsn=listen_dsn or None, stop_timeout=0.1)
    worker = Worker([pages(note, timeout=int(seconds))], dsn, settings=settings)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(worker.run, signals=True))
        print("ready", flush=True)  # noqa: T201


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    resource.setrlimit(resource.RLIMIT_AS, (4 * GIB, 4 * GIB))
    trio.run(main, *sys.argv[1:])
