"""`pgflow-events bench`."""

import os
from pathlib import Path

import click

from pgflow_events.bench import SCENARIOS, measure
from pgflow_events.bench.peers import read_peers
from pgflow_events.bench.plot import check_plot, plot
from pgflow_events.bench.report import table
from pgflow_events.cli.command import Command, Failure, json_option, print_json
from pgflow_events.cli.database import database, dsn_option
from pgflow_events.terminal.console import output_console


@click.command(
    cls=Command,
    examples=(
        "pgflow-events bench",
        "pgflow-events bench wake chain --dsn postgresql://localhost/scratch",
        "pgflow-events bench --plot bench.png --json",
    ),
)
@click.argument("scenarios", nargs=-1, type=click.Choice(list(SCENARIOS)))
@click.option(
    "--plot",
    "picture",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.png",
    help="Also draw a chart. Needs pgflow-events[bench].",
)
@click.option(
    "--peers",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="Figures of other engines to show next to ours: one JSON object a line.",
)
@click.option("--scale", type=float, hidden=True)
@dsn_option
@json_option
def bench(
    *,
    scenarios: tuple[str, ...],
    picture: Path | None,
    peers: Path | None,
    scale: float | None,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Measure speed on your own database.

    The scenarios are wake, rest, chain, drain, payload, fan and idle. Without arguments, all of
    them run, which takes a minute or two. Each scenario is compared with a floor: the least that
    PostgreSQL must do for the same result, written by hand.

    The command creates flows whose names begin with bench_, and a schema pgflow_bench, and removes
    them afterwards. It keeps the database busy: do not run it on a database that others use.
    """
    if picture:
        check_plot(picture)
    beside = read_peers(peers) if peers else []
    if scale is not None:
        os.environ["PGFLOW_BENCH_SCALE"] = str(scale)
    chosen = {name: SCENARIOS[name] for name in scenarios or SCENARIOS}
    console, results = output_console(), []
    with database(dsn) as found:
        for measured in measure(found, chosen, beside):
            results.append(measured)
            if not as_json:
                console.print(table(measured))
    if as_json:
        print_json([result for measured in results for result in measured])
    try:
        if picture:
            plot(results, picture)
    except OSError as error:
        raise Failure(f"{picture}: {error.strerror}") from error
