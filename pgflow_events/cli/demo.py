"""`pgflow-events demo`."""

from functools import partial

import click
import trio
from rich.console import Console

from pgflow_events.cli.command import Command, json_option, output_console, print_json
from pgflow_events.cli.database import database, dsn_option
from pgflow_events.demo import run


@click.command(
    cls=Command,
    examples=("pgflow-events demo", "pgflow-events demo https://example.org --json"),
)
@click.argument("urls", nargs=-1, metavar="[URL]...")
@dsn_option
@json_option
def demo(urls: tuple[str, ...], dsn: str | None, as_json: bool) -> None:
    """See the engine at work.

    Runs a flow that analyzes web pages: those at the URLs, or some of its own making, for which
    no network is needed. With --json the figures are printed, and the rest goes to stderr.
    """
    console = Console(stderr=True) if as_json else output_console()
    with database(dsn) as found:
        figures = trio.run(partial(run, found, urls, console))
    if as_json:
        print_json(figures)
