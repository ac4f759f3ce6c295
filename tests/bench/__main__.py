"""Run the benchmarks on a PostgreSQL of their own (fsync on) and print what they measured."""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import click
import orjson
import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier
from rich.console import Console

from pgflow_events import EmbeddedServer, bench
from pgflow_events.bench.measured import Result
from pgflow_events.bench.peers import read_peers
from pgflow_events.bench.plot import check_plot, plot
from pgflow_events.bench.report import table
from pgflow_events.schema.migrations import migrate_now
from tests.bench.scenarios.budget import budget
from tests.bench.scenarios.cancel import cancel
from tests.bench.scenarios.delay import delay
from tests.bench.scenarios.due import due
from tests.bench.scenarios.elements import elements
from tests.bench.scenarios.flows import flows
from tests.bench.scenarios.growth import growth
from tests.bench.scenarios.maps import maps
from tests.bench.scenarios.memory import memory
from tests.bench.scenarios.pages import pages
from tests.bench.scenarios.pruning import pruning
from tests.bench.scenarios.recovery import recovery
from tests.bench.scenarios.sizes import sizes
from tests.bench.scenarios.slow_disk import slow_disk
from tests.bench.scenarios.stream import stream
from tests.bench.scenarios.workers import workers

QUICK = {
    each.__name__: each
    for each in (flows, workers, growth, slow_disk, pruning, due, delay, cancel, elements, pages)
}
LONG = {each.__name__: each for each in (maps, stream, budget, memory, sizes, recovery)}
SCENARIOS: dict[str, bench.Scenario] = {**bench.SCENARIOS, **QUICK, **LONG}

WIDTH = 120


@click.command()
@click.argument("scenarios", nargs=-1, type=click.Choice(list(SCENARIOS)))
@click.option("--all", "everything", is_flag=True, help=f"Those that take long too: {[*LONG]}.")
@click.option("--dsn", help="An empty database to use, instead of an embedded server.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line.")
@click.option("--plot", "picture", type=click.Path(path_type=Path), help="Draw a picture too.")
@click.option("--peers", type=click.Path(path_type=Path, exists=True), help="Results of peers.")
def main(
    *,
    scenarios: tuple[str, ...],
    everything: bool,
    dsn: str | None,
    as_json: bool,
    picture: Path | None,
    peers: Path | None,
) -> None:
    """Measure SCENARIOS, or all that take no more than three minutes."""
    names = scenarios or [name for name in SCENARIOS if everything or name not in LONG]
    if picture:
        check_plot(picture)
    beside, results = read_peers(peers) if peers else [], []
    with nullcontext(dsn) if dsn else own_server() as found:
        for name in names:
            with nullcontext(found) if dsn else fresh_database(found, name) as used:
                prepare(used)
                for measured in bench.measure(used, {name: SCENARIOS[name]}, beside):
                    results.append(measured)
                    show(measured, as_json=as_json)
            if picture:
                plot(results, picture)


def show(measured: Sequence[Result], *, as_json: bool) -> None:
    """Print the results of a scenario."""
    if as_json:
        click.echo(b"\n".join(map(orjson.dumps, measured)))
    else:
        # Without a terminal, rich would cut the figures off at 80 columns.
        width = None if sys.stdout.isatty() else WIDTH
        Console(highlight=False, width=width).print(table(measured))


def prepare(dsn: str) -> None:
    """Make our schema, and have statements counted."""
    migrate_now(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create extension if not exists pg_stat_statements")


@contextmanager
def own_server() -> Iterator[str]:
    """A server, with fsync on."""
    settings = {"shared_preload_libraries": "pg_stat_statements", "max_connections": "500"}
    with (
        tempfile.TemporaryDirectory(prefix="pgflow-bench-") as folder,
        EmbeddedServer(Path(folder), settings=settings) as server,
    ):
        yield server.dsn


@contextmanager
def fresh_database(dsn: str, name: str) -> Iterator[str]:
    """A database of a scenario's own, in which no other has left room."""
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(SQL("create database {}").format(Identifier(name)))
        try:
            yield make_conninfo(dsn, dbname=name)
        finally:
            admin.execute(SQL("drop database {} with (force)").format(Identifier(name)))


if __name__ == "__main__":
    main()
