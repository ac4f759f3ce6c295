"""What the demo says on the console: a line for each part while it goes, then the figures."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

WIDTH = 80  # at most: a line is to be read, also in a window as wide as the screen


def show(console: Console, what: RenderableType) -> None:
    """Print within the width."""
    console.print(what, width=min(console.width, WIDTH), highlight=False)


@contextmanager
def part(console: Console, what: str, steps: int) -> Iterator[Callable[[], None]]:
    """Show the progress of a part on a terminal, and its time when it is over.

    Yields:
        What is to be called after each of its steps.
    """
    began = time.monotonic()
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn())
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


def introduction(console: Console, postgresql: str) -> None:
    """Say what is about to happen."""
    show(console, Text("pgflow-events demo", "bold"))
    show(
        console,
        Text(
            "A web site of Python's own documentation on 127.0.0.1, a worker in another process"
            f" that scrapes it, and PostgreSQL {postgresql} between.\n",
            "dim",
        ),
    )
