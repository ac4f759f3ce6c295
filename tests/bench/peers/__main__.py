"""Measure peers and this project in turns, on one PostgreSQL, and print what came out."""

import json
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import click
import trio
from rich.console import Console

from pgflow_events import EmbeddedServer
from tests.bench import corpus
from tests.bench.measuring import html
from tests.bench.peers import databases, noise
from tests.bench.peers.catalog import PEERS
from tests.bench.peers.measuring import Bench
from tests.bench.peers.results import Result, table
from tests.bench.peers.scenarios import SCENARIOS, Sizes

NAMES = [peer.name for peer in PEERS]
SERVER = {
    "shared_preload_libraries": "pg_stat_statements",
    "max_connections": "300",
    # No checkpoint within a measurement: what it costs would be whose turn it is.
    "checkpoint_timeout": "1h",
    "max_wal_size": "8GB",
}


@click.command()
@click.argument("scenarios", nargs=-1, type=click.Choice(list(SCENARIOS)))
@click.option("--peer", "names", multiple=True, type=click.Choice(NAMES), help="Default: all.")
@click.option("--setting", multiple=True, type=click.Choice(["default", "fastest"]))
@click.option("--rounds", default=5, show_default=True)
@click.option("--scale", default=1.0, show_default=True, help="Of the number of jobs and runs.")
@click.option("--deadline", default=60.0, show_default=True, help="Seconds for a measurement.")
@click.option("--dsn", help="A server to make databases on, instead of an embedded one.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each result.")
def main(
    *,
    scenarios: tuple[str, ...],
    names: tuple[str, ...],
    setting: tuple[str, ...],
    rounds: int,
    scale: float,
    deadline: float,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Measure SCENARIOS, or all of them."""
    results = [
        Result(peer, name, scenario)
        for scenario in scenarios or SCENARIOS
        for peer in PEERS
        for name, values in peer.settings.items()
        if (not names or peer.name in names) and (not setting or name in setting)
        if scenario in peer.scenarios - values.leaves_out
    ]
    with (
        tempfile.TemporaryDirectory(prefix="pgflow-bench-") as folder,
        nullcontext(dsn) if dsn else embedded() as conninfo,
        databases.connect(conninfo) as made,
    ):
        bench = Bench(
            made,
            Path(folder),
            results,
            order=write_pages(Path(folder)),
            sizes=Sizes(scale=scale),
            deadline=deadline,
            tell=lambda text: click.echo(text, err=True),
        )
        trio.run(bench.run, rounds, lambda: noise.measure(conninfo))
    report(results, bench.noise, as_json=as_json)


@contextmanager
def embedded() -> Iterator[str]:
    """A server of our own."""
    with (
        tempfile.TemporaryDirectory(prefix="pgflow-bench-") as folder,
        EmbeddedServer(Path(folder), settings=SERVER) as server,
    ):
        yield server.conninfo


def write_pages(folder: Path) -> dict[str, object]:
    """Write the pages down for programs that cannot import them; where they are."""
    large = {}
    for megabytes in (3, 20):
        file = folder / f"{megabytes}.html"
        file.write_text(html(megabytes * 1_000_000))
        large[f"{megabytes} MB"] = str(file)
    pages = folder / "pages.json"
    pages.write_text(json.dumps([page.decode() for page in corpus.site().held_out]))
    return {"large": large, "pages": str(pages)}


def report(results: list[Result], quiet: list[dict[str, float]], *, as_json: bool) -> None:
    """Print all results, and how quiet the machine was."""
    if as_json:
        noise = {name: statistics.median(each[name] for each in quiet) for name in quiet[0]}
        for result in results:
            click.echo(json.dumps(result.as_json(noise)))
        return
    console = Console(width=200)
    for scenario in dict.fromkeys(result.scenario for result in results):
        console.print(table(scenario, results))
    for number, figures in enumerate(quiet):
        console.print(f"noise, round {number}:", {k: round(v, 3) for k, v in figures.items()})


if __name__ == "__main__":
    main()
