"""`pgflow-events demo`."""

from functools import partial

import click
import trio

from pgflow_events.cli.command import Command, json_option, print_json, program
from pgflow_events.cli.database import database, dsn_of, dsn_option
from pgflow_events.demo import run
from pgflow_events.terminal.console import output_console


@click.command(
    cls=Command,
    examples=("pgflow-events demo", "pgflow-events demo --url https://example.org --json"),
)
@click.option("--url", "urls", multiple=True, help="A web page to scrape as well. Repeatable.")
@dsn_option
@json_option
def demo(urls: tuple[str, ...], dsn: str | None, as_json: bool) -> None:
    """See the engine at work.

    Serves a small web site on this machine, scrapes its pages and those of --url, and then
    measures how fast a worker wakes up. Without --url, it needs no network. With --json, it prints
    the figures to stdout, and everything else to stderr.
    """
    console = output_console(stderr=as_json)
    embedded = dsn_of(dsn) is None
    with database(dsn) as found:
        show = partial(run, found, urls, console, program=program(), embedded=embedded)
        figures = trio.run(show)
    if as_json:
        print_json(figures)
