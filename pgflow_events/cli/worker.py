"""`pgflow-events worker`."""

from functools import partial
from typing import Any

import click
import trio

from pgflow_events.cli.command import Command
from pgflow_events.cli.database import checked, database, dsn_option, listen_dsn_option
from pgflow_events.cli.loading import load_factory, load_flows
from pgflow_events.cli.logs import FORMATS, LEVELS, log_to_stderr
from pgflow_events.settings import Settings
from pgflow_events.worker import Worker

DEFAULTS = Settings()


@click.command(
    cls=Command,
    examples=(
        "pgflow-events worker flows.py",
        "pgflow-events worker myapp.flows:analyze myapp.flows:report --slots 200",
        "pgflow-events worker myapp.flows --resources myapp.clients:resources --log-format json",
    ),
)
@click.argument("flows", nargs=-1, required=True, metavar="MODULE[:FLOW]...")
@click.option(
    "--slots",
    type=click.IntRange(min=1),
    default=DEFAULTS.slots,
    show_default=True,
    help="How many tasks run at once.",
)
@click.option(
    "--connections",
    type=click.IntRange(min=1),
    default=DEFAULTS.connections,
    show_default=True,
    help="How many connections it opens at most, besides the one that listens.",
)
@click.option(
    "--resources",
    metavar="MODULE:FACTORY",
    help="A function without arguments, whose result is an async context manager of a mapping:"
    " Context.resources.",
)
@click.option(
    "--log-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="info",
    show_default=True,
)
@click.option(
    "--log-format",
    type=click.Choice(list(FORMATS)),
    default="text",
    show_default=True,
    help="How lines on stderr look; json: an object each.",
)
@dsn_option
@listen_dsn_option
def worker(
    *,
    flows: tuple[str, ...],
    slots: int,
    connections: int,
    resources: str | None,
    log_level: str,
    log_format: str,
    dsn: str | None,
    listen_dsn: str | None,
) -> None:
    """Run the tasks of flows.

    MODULE is a dotted name or the path of a .py file, FLOW the name of a variable; without it
    all flows of the module are meant. What is new or has other options is defined in the
    database. A line on stdout says that the worker is ready.

    SIGTERM or Ctrl-C: it finishes the tasks at hand and exits with 0; the second one cancels
    them, and they are tried again after their timeouts.
    """
    log_to_stderr(log_level, log_format)
    loaded = load_flows(flows)
    options: dict[str, Any] = {"resources": load_factory(resources)} if resources else {}
    settings = Settings(
        slots=slots,
        connections=connections,
        listen_dsn=checked(listen_dsn) if listen_dsn else None,
    )
    with database(dsn) as found:
        ready = f"ready: {', '.join(flow.slug for flow in loaded)}"
        trio.run(work, Worker(loaded, found, settings=settings, **options), ready)


async def work(runs: Worker, ready: str) -> None:
    """Run the worker, and say when it is ready."""
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(runs.run, signals=True))
        click.echo(ready)
