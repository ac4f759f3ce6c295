"""A worker in a process of its own, there to be killed, and the flow that it and others run."""

import logging
import sys
from collections.abc import Awaitable, Callable

import trio

from pgflow_events import Context, Flow, Settings, Worker

PAGE = "<p>a long page, " * 20_000

Note = Callable[[Context], Awaitable[None]]


def pages(note: Note, **options) -> Flow:
    """A step whose output is a blob, and one that reads it; each tells of its attempts."""
    flow = Flow("pages", **{"timeout": 600, "max_attempts": 5, "base_delay": 0, **options})

    @flow.step(flow.context)
    async def page(context: Context) -> str:
        await note(context)
        return PAGE

    @flow.step(flow.context, page)
    async def length(context: Context, text: str) -> int:
        await note(context)
        return len(text)

    return flow


async def main(dsn: str, hang: str = "", seconds: str = "600") -> None:
    """Work, and hang in this step. An attempt may take so many seconds."""

    async def note(context: Context) -> None:
        print(context.step, context.attempt, flush=True)  # noqa: T201
        if context.step == hang:
            await trio.sleep_forever()

    # Only what others tell it shall let it do anything.
    settings = Settings(slots=1, check_interval=3600, grace=3600, cache_budget=0)
    worker = Worker([pages(note, timeout=int(seconds))], dsn, settings=settings)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        print("ready", flush=True)  # noqa: T201


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    trio.run(main, *sys.argv[1:])
