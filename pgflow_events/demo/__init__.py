"""The demo: a web site and a worker, and figures of what the worker does.

The flows are in :mod:`pgflow_events.demo.flows`. The web site and the worker are separate
processes, so that each wake-up goes from one process to another.
"""

import os
import random
import time
from collections.abc import Callable, Sequence
from math import ceil
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import trio
from psycopg.conninfo import make_conninfo
from rich.console import Console

from blobstore import Inline
from blobstore.postgres.ids import new_id
from pgflow_events.client.client import Client, connect
from pgflow_events.client.run import Run
from pgflow_events.core.runs import start_flows
from pgflow_events.core.step_summaries import summarize_steps
from pgflow_events.core.summaries import summarize_runs
from pgflow_events.demo import report
from pgflow_events.demo import tables as queries
from pgflow_events.demo.flows import FLOWS, bundle, count, scrape, wake, woken
from pgflow_events.errors import RunFailed, SettingsError
from pgflow_events.postgres.connection import Connection
from pgflow_events.service import child

SLUGS = [flow.slug for flow in FLOWS]

Advance = Callable[[], None]


async def run(
    dsn: str,
    urls: Sequence[str],
    console: Console,
    *,
    pages: int = 60,
    starts: int = 100,
    idle: float = 3.0,
    program: str = "pgflow-events",
    embedded: bool = False,
) -> dict[str, Any]:
    """Run the demo, and print what was measured.

    It first removes what the last demo left in the database: the runs, and the table
    ``pgflow_demo.pages``.

    Args:
        dsn: The connection string of a migrated database.
        urls: Web pages to scrape besides those of the demo's site.
        console: Where to print.
        pages: The largest number of pages of the demo's site.
        starts: How often the demo wakes an idle worker.
        idle: How many seconds the demo watches the idle worker.
        program: How the user types our command, for the last lines of the output.
        embedded: Whether the server ends with this process.

    Returns:
        The figures, as JSON can hold them. Sizes are in bytes, latencies in milliseconds.

    Raises:
        SettingsError: One of the URLs is not the URL of a web page.
        RunFailed: A run has failed.
        PgflowError: Another demo is running on this database, or one of its processes failed.
    """
    check(urls)
    began = time.monotonic()
    name = f"pgflow_events demo {os.getpid()}"
    async with await Connection.connect(dsn) as connection:
        await queries.lock(connection)
        await queries.clear(connection, SLUGS)
        report.introduction(console, connection, len(urls))
        async with (
            child.start("pgflow_events.demo.site", {"pages": pages}) as site,
            child.start(
                "pgflow_events.demo.worker", {"dsn": make_conninfo(dsn, application_name=name)}
            ) as worker,
            connect(dsn) as client,
        ):
            with report.part(console, "A web site and a worker, in a process each", 2) as advance:
                served = await opened(site, worker, advance)
            demo = Demo(connection, client, console)
            figures = await demo.scrape(list(dict.fromkeys([*served, *urls])), served)
            figures |= await demo.bundle(list(served))
            figures |= await demo.wake(starts)
            figures |= await demo.idle(idle, name)
            await worker.end()
            figures |= await worker.receive()
        figures |= await queries.figures(connection, SLUGS)
        figures["compression_ratio"] = figures["output_bytes"] / figures["stored_bytes"]
        figures["seconds"] = time.monotonic() - began
        await demo.report(figures, program=program, embedded=embedded)
    return figures


def check(urls: Sequence[str]) -> None:
    """Refuse a URL that is not the URL of a web page."""
    for url in urls:
        if urlsplit(url).scheme not in {"http", "https"}:
            raise SettingsError(f"{url!r} is not a web page: give http://… or https://…")


async def opened(
    site: child.Child, worker: child.Child, advance: Advance
) -> dict[str, tuple[int, str]]:
    """Wait for both processes. Return size and SHA-256 of each page by its URL."""
    listed = await site.receive()
    advance()
    await worker.receive()
    advance()
    return {
        f"http://127.0.0.1:{listed['port']}{page['path']}": (page["bytes"], page["sha256"])
        for page in listed["pages"]
    }


class Demo:
    """The parts of the demo. Each shows its progress and returns its figures."""

    def __init__(self, connection: Connection, client: Client, console: Console) -> None:
        self._connection = connection
        self._client = client
        self._console = console

    async def scrape(
        self, urls: Sequence[str], served: dict[str, tuple[int, str]]
    ) -> dict[str, Any]:
        """Scrape these pages, and compare the saved pages with those that the site served."""
        what = f"{len(urls)} pages: website → links, words, summary → save"
        with report.part(self._console, what, len(urls)) as advance:
            runs = await self._client.start_many(scrape, urls)
            await completed(runs, advance)
        saved = await queries.saved_pages(self._connection)
        sizes = [saved[url][0] for url in urls]
        return {
            "pages": len(urls),
            "pages_saved": len(saved),
            "pages_served": len(served),
            "pages_as_served": sum(saved.get(url) == page for url, page in served.items()),
            "html_bytes": sum(sizes),
            "smallest_page_bytes": min(sizes),
            "largest_page_bytes": max(sizes),
            "largest_page_run": str(runs[sizes.index(max(sizes))].id),
        }

    async def bundle(self, urls: Sequence[str]) -> dict[str, Any]:
        """Fetch these pages by a task each, and pass the list of them to one step."""
        what = "All of them in one run, by a task each: pages → count"
        with report.part(self._console, what, 1) as advance:
            started = await self._client.start(bundle, list(urls))
            await completed([started], advance)
        counted = await started.output(count)
        return {
            "bundle_pages": counted["pages"],
            "bundle_bytes": counted["bytes"],
            "bundle_run": str(started.id),
        }

    async def wake(self, starts: int) -> dict[str, Any]:
        """Start runs of one step while the worker is idle."""
        answered, sent = [], []
        with report.part(self._console, "Waking the worker while it is idle", starts) as advance:
            for _ in range(starts):
                await trio.sleep(random.uniform(0.015, 0.035))  # noqa: S311 - no secret
                since_answered, since_sent = await self._wake_up()
                answered.append(since_answered)
                sent.append(since_sent)
                advance()
        return {
            "wake_ups": starts,
            "wake_ms": percentiles(answered),
            "wake_with_commit_ms": percentiles(sent),
        }

    async def _wake_up(self) -> tuple[float, float]:
        """Milliseconds from the answer to COMMIT, and from its sending, to the handler's start."""
        run_id = new_id()
        async with self._connection.transaction():
            await start_flows(self._connection, wake.slug, [Inline(b"0")], [run_id])
            sent = time.monotonic()
        answered = time.monotonic()
        at = await (await self._client.find(run_id)).output(woken)
        return (at - answered) * 1000, (at - sent) * 1000

    async def idle(self, seconds: float, name: str) -> dict[str, Any]:
        """Count the worker's sessions that send a query while the worker is idle."""
        with report.part(self._console, "Leaving it alone", 1) as advance:
            await trio.sleep(1.0)  # half a second after its last claim it looks once more
            before = await queries.sessions(self._connection, name)
            await trio.sleep(seconds)
            after = await queries.sessions(self._connection, name)
            advance()
        known = after and None not in after.values()
        return {
            "idle_seconds": seconds,
            "idle_sessions": len(after),
            "idle_sessions_with_queries": len(after.items() - before.items()) if known else None,
        }

    async def report(self, figures: dict[str, Any], *, program: str, embedded: bool) -> None:
        """Print the figures, the run of all pages, and that of the largest page."""
        report.figures(self._console, figures)
        run_id = figures["largest_page_run"]
        await self._show("The run of all pages, which has a task for each", figures["bundle_run"])
        await self._show("The run of the largest page", run_id)
        report.commands(self._console, run_id, program=program, embedded=embedded)

    async def _show(self, title: str, run_id: str) -> None:
        """Print a run."""
        (row,) = await summarize_runs(self._connection, run_id=UUID(run_id))
        steps = await summarize_steps(self._connection, row.run_id)
        report.run(self._console, title, row, steps)


async def completed(runs: Sequence[Run], advance: Advance) -> None:
    """Wait for these runs.

    Raises:
        RunFailed: At least one of them failed.
    """
    failures: list[RunFailed] = []

    async def end(awaited: Run) -> None:
        try:
            await awaited.result()
        except RunFailed as failure:
            failures.append(failure)
        advance()

    async with trio.open_nursery() as nursery:
        for awaited in runs:
            nursery.start_soon(end, awaited)
    if failures:
        raise RunFailed(f"{len(failures)} of {len(runs)} runs failed; {failures[0]}")


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """The median, the 99th percentile and the maximum."""
    ordered = sorted(values)
    return {
        "p50": ordered[ceil(len(ordered) * 0.5) - 1],
        "p99": ordered[ceil(len(ordered) * 0.99) - 1],
        "max": ordered[-1],
    }
