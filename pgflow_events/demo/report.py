"""Prints the demo's output: a line for each part, then the figures.

To renew the example: ``pgflow-events demo | sed 's/ *$//' > docs/measured/demo-output.txt``.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from pgflow_events.core.step_summaries import StepSummary
from pgflow_events.core.summaries import RunSummary
from pgflow_events.postgres.connection import Connection
from pgflow_events.terminal.display import run_tree
from pgflow_events.texts import size as bytes_text

WIDTH = 80  # the largest: longer lines are hard to read


def show(console: Console, what: RenderableType, *, no_wrap: bool = False) -> None:
    """Print, no wider than WIDTH."""
    width = min(console.width, WIDTH)
    console.print(what, width=width, highlight=False, no_wrap=no_wrap, overflow="ellipsis")


@contextmanager
def part(console: Console, what: str, steps: int) -> Iterator[Callable[[], None]]:
    """Show the progress of a part on a terminal, and its time at the end.

    Yields:
        A function to call after each step of the part.
    """
    began = time.monotonic()
    columns = (TextColumn("  {task.description}"), BarColumn(16), MofNCompleteColumn())
    # Drawn after each step, without a thread: a thread would disturb the measurement.
    with Progress(
        *columns,
        console=console,
        transient=True,
        auto_refresh=False,
        disable=not console.is_terminal,
    ) as progress:
        bar = progress.add_task(what, total=steps)
        progress.refresh()
        yield lambda: progress.update(bar, advance=1, refresh=True)
    line = Table.grid(expand=True, padding=(0, 1))
    line.add_column()
    line.add_column(ratio=1)
    line.add_column(justify="right", no_wrap=True)
    line.add_row(Text("✓", "green"), what, Text(f"{time.monotonic() - began:.1f} s", "dim"))
    show(console, line)


def introduction(console: Console, connection: Connection, others: int) -> None:
    """Say what the demo is about to do."""
    version = connection.info.server_version
    more = f" and {others} other page{'s' * (others > 1)}" if others else ""
    show(console, Text("pgflow-events demo", "bold"))
    show(
        console,
        Text(
            "A web site on 127.0.0.1 serves Python's own documentation. In another process, a"
            f" worker scrapes it{more}. This process talks to the worker through"
            f" PostgreSQL {version // 10000}.{version % 10000}.\n",
            "dim",
        ),
    )


def figures(console: Console, figures: Mapping[str, Any]) -> None:
    """Print a table of the figures."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("", justify="right", no_wrap=True, style="bold")
    table.add_column("measured in this run")
    for number, meaning in rows(figures):
        table.add_row(number, meaning)
    show(console, "")
    show(console, table)


def rows(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The figures, each with its meaning."""
    size = {name: bytes_text(value) for name, value in figures.items() if name.endswith("_bytes")}
    tasks, served = figures["tasks"], figures["pages_served"]
    answered, sent = figures["wake_ms"], figures["wake_with_commit_ms"]
    smallest, largest = size["smallest_page_bytes"], size["largest_page_bytes"]
    yield str(figures["runs"]), f"runs completed, of {tasks} tasks"
    yield str(figures["pages_saved"]), f"pages of {smallest} to {largest} saved in a table"
    yield str(figures["pages_as_served"]), f"of our site's {served} arrived as sent, by SHA-256"
    yield (
        size["html_passed_bytes"],
        (
            "of HTML passed to next steps: each page to three steps, then to one step a list of"
            f" {figures['bundle_pages']} pages, which it read one after the other"
        ),
    )
    yield (
        size["stored_bytes"],
        (
            f"stored for {size['output_bytes']} of outputs:"
            f" {figures['compression_ratio']:.1f} times smaller"
        ),
    )
    yield (
        str(figures["handed_over"]),
        (f"of {tasks} tasks came with the commit of another task: no wake-up, no claim"),
    )
    yield (
        f"{answered['p50']:.1f} ms",
        (
            "from the answer to COMMIT, in this process, to the handler's first line in the idle"
            f" worker; median of {figures['wake_ups']} starts, p99 {answered['p99']:.1f} ms"
        ),
    )
    yield (
        f"{sent['p50']:.1f} ms",
        (f"from the sending of COMMIT, which waits for the disk; p99 {sent['p99']:.1f} ms"),
    )
    yield idle(figures)


def idle(figures: Mapping[str, Any]) -> tuple[str, str]:
    """The queries of the idle worker. The view shows which sessions sent some, but not how many."""
    seconds, sessions = f"{figures['idle_seconds']:g} s", figures["idle_sessions"]
    active = figures["idle_sessions_with_queries"]
    if active is None:
        return "unknown", f"queries sent in {seconds}: the server's track_activities is off"
    if active:
        return str(active), f"of the worker's {sessions} sessions sent queries in {seconds} idle"
    queries = f"queries sent by the idle worker in {seconds}, on {sessions} connections"
    return "0", f"{queries} (according to pg_stat_activity)"


def run(console: Console, title: str, run: RunSummary, steps: Sequence[StepSummary]) -> None:
    """Print a run with its steps."""
    show(console, "")
    show(console, Text(title, "bold"))
    show(console, run_tree(run, steps), no_wrap=True)


def commands(console: Console, run_id: str, *, program: str, embedded: bool) -> None:
    """Print the commands that show more."""
    where = "which start the embedded PostgreSQL again" if embedded else "or in pgflow_demo.pages"
    show(
        console,
        Text(
            f"\nThese runs stay until the next demo. Look at them with `{program} runs`"
            f" and `{program} show {run_id}`, {where}.",
            "dim",
        ),
    )
