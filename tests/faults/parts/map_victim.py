"""A worker that is there to be killed inside a map, and one that goes on for it."""

import logging
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio

from pgflow_events import Context, Flow, Worker
from pgflow_events.core.flows import define_flow
from pgflow_events.postgres.connection import Connection

from .victim import ONLY_WHEN_TOLD, PAGE

ELEMENTS = 7
Note = Callable[[str, int], Awaitable[None]]


def crawl(note: Note) -> Flow[Any]:
    """A list, a map over it, and a step that gets all that the map gave.

    Every other page is large. Each attempt is noted, with the number of its element.
    """
    flow = Flow[Any]("crawl", timeout=600, max_attempts=5, base_delay=0)

    @flow.step(flow.context)
    async def links(context: Context) -> list[dict[str, Any]]:
        await note("links", context.attempt)
        return [{"n": n, "page": PAGE if n % 2 else ""} for n in range(ELEMENTS)]

    @flow.step(links.each, flow.context)
    async def page(link: dict[str, Any], context: Context) -> dict[str, Any]:
        await note(f"page {link['n']}", context.attempt)
        return link

    @flow.step(page, flow.context)
    async def index(pages: list[dict[str, Any]], context: Context) -> list[list[int]]:
        await note("index", context.attempt)
        return [[each["n"], len(each["page"])] for each in pages]

    return flow


RESULT = {"index": [[n, len(PAGE) if n % 2 else 0] for n in range(ELEMENTS)]}


class MapRescuer(Worker):
    """Runs the same flow in this process, and notes what it begins."""

    def __init__(self, dsn: str) -> None:
        self.begun: list[str] = []
        self._flow = crawl(self._note)
        super().__init__([self._flow], dsn, settings=ONLY_WHEN_TOLD)

    async def _note(self, what: str, attempt: int) -> None:
        self.begun.append(f"{what}, {attempt}")

    async def define(self) -> None:
        """Define the flow, before any worker is there."""
        async with await Connection.connect(self._dsn) as connection:
            await define_flow(connection, self._flow.definition())


async def main(dsn: str, hangs: str = "") -> None:
    """Work; the first attempt of what is named, such as ``page 3``, does not end."""

    async def note(what: str, attempt: int) -> None:
        print(f"{what}, {attempt}", flush=True)  # noqa: T201
        if (what, attempt) == (hangs, 1):
            await trio.sleep_forever()

    worker = Worker([crawl(note)], dsn, settings=ONLY_WHEN_TOLD)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(worker.run, signals=True))
        print("ready", flush=True)  # noqa: T201


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    trio.run(main, *sys.argv[1:])
