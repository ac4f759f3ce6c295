"""What the demo says on the console: a line for each part while it goes, then the figures.

An example is kept by ``pgflow-events demo | sed 's/ *$//' > docs/measured/demo-output.txt``.
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

from pgflow_events.core.summaries import RunSummary, StepSummary
from pgflow_events.postgres.connection import Connection
from pgflow_events.terminal.display import run_tree
from pgflow_events.texts import size as bytes_text

WIDTH = 80  # at most: a line is to be read, also in a window as wide as the screen


def show(console: Console, what: RenderableType, *, no_wrap: bool = False) -> None:
    """Print within the width."""
    width = min(console.width, WIDTH)
    console.print(what, width=width, highlight=False, no_wrap=no_wrap, overflow="ellipsis")


@contextmanager
def part(console: Console, what: str, steps: int) -> Iterator[Callable[[], None]]:
    """Show the progress of a part on a terminal, and its time when it is over.

    Yields:
        What is to be called after each of its steps.
    """
    began = time.monotonic()
    columns = (TextColumn("  {task.description}"), BarColumn(16), MofNCompleteColumn())
    # Drawn when a step is over and by no thread of its own, which would disturb what is measured.
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
    """Say what is about to happen."""
    version = connection.info.server_version
    more = f" and {others} other page{'s' * (others > 1)}" if others else ""
    show(console, Text("pgflow-events demo", "bold"))
    show(
        console,
        Text(
            "On 127.0.0.1, a web site made of Python's own documentation. In another process, a"
            f" worker that scrapes it{more}. Between the worker and us,"
            f" PostgreSQL {version // 10000}.{version % 10000}.\n",
            "dim",
        ),
    )


def figures(console: Console, figures: Mapping[str, Any]) -> None:
    """Print a table of what was measured."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("", justify="right", no_wrap=True, style="bold")
    table.add_column("measured in this run")
    for number, meaning in rows(figures):
        table.add_row(number, meaning)
    show(console, "")
    show(console, table)


def rows(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The figures, each with what it means."""
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
            "of HTML handed to the next steps: each page to three of them; then all pages to one,"
            f" as one value of {size['largest_blob_bytes']}"
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
        (f"of {tasks} tasks came with the commit of another: no wake-up, no claim"),
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
        (f"from the sending of COMMIT, so with its wait for the disk; p99 {sent['p99']:.1f} ms"),
    )
    yield idle(figures)


def idle(figures: Mapping[str, Any]) -> tuple[str, str]:
    """What the idle worker sent; the view tells who sent something, and not how much."""
    seconds, sessions = f"{figures['idle_seconds']:g} s", figures["idle_sessions"]
    active = figures["idle_sessions_with_queries"]
    if active is None:
        return "unknown", f"queries sent in {seconds}: the server has track_activities off"
    if active:
        return str(active), f"of the worker's {sessions} sessions sent queries in {seconds} idle"
    queries = f"queries sent by the idle worker in {seconds}, on {sessions} connections"
    return "0", f"{queries} (says pg_stat_activity)"


def largest(
    console: Console, run: RunSummary, steps: Sequence[StepSummary], *, program: str, embedded: bool
) -> None:
    """Print the run of the largest page, and the commands that show more, as they can be typed."""
    where = "which start the embedded PostgreSQL again" if embedded else "or in pgflow_demo.pages"
    show(console, "")
    show(console, Text("The run of the largest page", "bold"))
    show(console, run_tree(run, steps), no_wrap=True)
    show(
        console,
        Text(
            f"\nAll this stays until the next demo. Look at it with `{program} runs`"
            f" and `{program} show {run.run_id}`, {where}.",
            "dim",
        ),
    )
