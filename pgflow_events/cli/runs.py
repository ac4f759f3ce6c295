"""`pgflow-events runs`."""

import click
import trio

from pgflow_events.cli.command import Command, json_option, print_json
from pgflow_events.cli.console import output_console
from pgflow_events.cli.database import database, dsn_option
from pgflow_events.connection import Connection
from pgflow_events.display import runs_table
from pgflow_events.summaries import RunSummary, summarize_runs


@click.command(
    cls=Command,
    examples=(
        "pgflow-events runs",
        "pgflow-events runs --flow analyze_website --status failed --limit 100",
        "pgflow-events runs --json",
    ),
)
@click.option("--flow", metavar="SLUG", help="Only runs of this flow.")
@click.option("--status", type=click.Choice(["started", "completed", "failed"]))
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@dsn_option
@json_option
def runs(flow: str | None, status: str | None, limit: int, dsn: str | None, as_json: bool) -> None:
    """List runs, the newest first."""
    with database(dsn) as found:
        listed = trio.run(list_runs, found, flow, status, limit)
    if as_json:
        print_json(listed)
    else:
        output_console().print(runs_table(listed))


async def list_runs(dsn: str, flow: str | None, status: str | None, limit: int) -> list[RunSummary]:
    """The newest runs of a flow and a status, or of all."""
    async with await Connection.connect(dsn) as connection:
        return await summarize_runs(connection, flow_slug=flow, status=status, limit=limit)
