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
@click.option("--url", "urls", multiple=True, help="A page to scrape as well; repeatable.")
@dsn_option
@json_option
def demo(urls: tuple[str, ...], dsn: str | None, as_json: bool) -> None:
    """See the engine at work.

    Scrapes the web pages of a site of its own, for which no network is needed, and those given by
    --url; then measures how fast a worker is woken. With --json the figures are the output, and
    the rest goes to stderr.
    """
    console = output_console(stderr=as_json)
    embedded = dsn_of(dsn) is None
    with database(dsn) as found:
        show = partial(run, found, urls, console, program=program(), embedded=embedded)
        figures = trio.run(show)
    if as_json:
        print_json(figures)
