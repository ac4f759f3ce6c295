"""What was done, as a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from rich.box import SIMPLE_HEAD
from rich.table import Table

from pgflow_events.bench.measured import percentile
from tests.torture.proof import named

# What the workers log.
TOLD = {
    "completions refused as too late": ": too late: ",
    "workers buried by a peer, dead or alive": " has died: ",
}
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}

ENDED = """
select run_id, extract(epoch from coalesce(completed_at, failed_at))::float8 from pgflow.runs
where run_id = any(%s) and status <> 'started'
"""

Times = Mapping[str, Sequence[float]]


def done(connection: psycopg.Connection[Any]) -> dict[str, int]:
    """How much was done."""
    cursor = connection.cursor(row_factory=dict_row)
    (counts,) = cursor.execute(named("figures.sql")["done"].encode()).fetchall()
    return counts


def times(connection: psycopg.Connection[Any]) -> dict[str, list[float]]:
    """Seconds that it took to go on."""
    queries = named("figures.sql")
    return {
        name: [took for (took,) in connection.execute(queries[query].encode()) if took is not None]
        for name, query in {
            "from a server's return to the next task completed": "recovery",
            "from SIGKILL to the next attempt of what was in hand": "handover",
        }.items()
    }


def lags(connection: psycopg.Connection[Any], told: Mapping[UUID, float]) -> list[float]:
    """Seconds from the end of each run until its client knew."""
    return [told[run_id] - at for run_id, at in connection.execute(ENDED, [list(told)])]


def told(log: Path) -> dict[str, int]:
    """What the workers tell of."""
    text = log.read_text(errors="replace")
    return {name: text.count(words) for name, words in TOLD.items()}


def table(title: str, counts: Mapping[str, int], took: Times) -> Table:
    """Counts, and percentiles of times."""
    drawn = Table(box=SIMPLE_HEAD, title=title, title_justify="left", show_header=False)
    drawn.add_column(no_wrap=True)
    drawn.add_column(justify="right")
    for name, count in counts.items():
        drawn.add_row(name, f"{count:,}")
    drawn.add_section()
    for name, seconds in took.items():
        if seconds:
            shown = ", ".join(f"{p} {percentile(seconds, s):.2f}" for p, s in SHARES.items())
            drawn.add_row(f"seconds {name} ({len(seconds):,})", shown)
    return drawn
