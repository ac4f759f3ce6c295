"""Run the benchmarks on a PostgreSQL of their own (fsync on) and print what they measured."""

import json
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click
import trio
from rich.console import Console
from rich.table import Table

from pgflow_events import EmbeddedServer
from pgflow_events.migrations import migrate_now
from tests.bench import (
    budget,
    drain,
    due,
    elements,
    growth,
    idle,
    pages,
    payload,
    sizes,
    stream,
    wake,
)

SCENARIOS: dict[str, Callable[[str], Awaitable[dict[str, Any]]]] = {
    "wake": wake.measure,
    "drain": drain.measure,
    "payload": payload.measure,
    "stream": stream.measure,
    "budget": budget.measure,
    "elements": elements.measure,
    "growth": growth.measure,
    "pages": pages.measure,
    "sizes": sizes.measure,
    "due": due.measure,
    "idle": idle.measure,
}


@click.command()
@click.argument("scenarios", nargs=-1, type=click.Choice(list(SCENARIOS)))
@click.option("--dsn", help="An empty database to use, instead of an embedded server.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each scenario.")
def main(scenarios: tuple[str, ...], dsn: str | None, as_json: bool) -> None:
    """Measure SCENARIOS, or all of them."""
    if dsn:
        run(dsn, scenarios, as_json=as_json)
        return
    with (
        tempfile.TemporaryDirectory(prefix="pgflow-bench-") as folder,
        EmbeddedServer(
            Path(folder), settings={"shared_preload_libraries": "pg_stat_statements"}
        ) as server,
    ):
        run(server.conninfo, scenarios, as_json=as_json)


def run(dsn: str, scenarios: tuple[str, ...], *, as_json: bool) -> None:
    """Migrate the database, and measure one scenario after the other."""
    migrate_now(dsn)
    for name in scenarios or SCENARIOS:
        result = trio.run(SCENARIOS[name], dsn)
        if as_json:
            click.echo(json.dumps({"scenario": name, **result}))
        else:
            Console().print(table(name, result))


def table(name: str, result: dict[str, Any]) -> Table:
    """What a scenario measured, a line a figure."""
    drawn = Table("figure", "value", title=name, title_justify="left", min_width=60)
    for figure, value in result.items():
        drawn.add_row(figure, f"{value:,.3g}" if isinstance(value, float) else f"{value:,}")
    return drawn


if __name__ == "__main__":
    main()
