"""`pgflow-events runs`."""

import click
import trio

from pgflow_events.cli.command import Command, json_option, print_json
from pgflow_events.cli.database import database, dsn_option
from pgflow_events.core.runs import need_flow
from pgflow_events.core.summaries import STATES, RunSummary, summarize_runs
from pgflow_events.postgres.connection import Connection
from pgflow_events.terminal.console import output_console, print_whole
from pgflow_events.terminal.display import runs_table

MOST = 2**31 - 1  # rows


@click.command(
    cls=Command,
    examples=(
        "pgflow-events runs",
        "pgflow-events runs --flow analyze_website --status failed --limit 100",
        "pgflow-events runs --status running",
        "pgflow-events runs --json",
    ),
)
@click.option("--flow", metavar="SLUG", help="Only runs of this flow.")
@click.option(
    "--status",
    type=click.Choice(["started", *STATES, "completed", "failed", "cancelled"]),
    help="Only runs of this status. A started run is queued (it waits for a worker), delayed (it"
    " begins later), running, or retrying (it waits for the next attempt).",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1, max=MOST),
    default=20,
    show_default=True,
    help="The largest number of runs to list.",
)
@dsn_option
@json_option
def runs(flow: str | None, status: str | None, limit: int, dsn: str | None, as_json: bool) -> None:
    """List runs, the newest first."""
    with database(dsn) as found:
        listed = trio.run(list_runs, found, flow, status, limit)
    if as_json:
        print_json(listed)
    else:
        print_whole(output_console(), runs_table(listed))


async def list_runs(dsn: str, flow: str | None, status: str | None, limit: int) -> list[RunSummary]:
    """The newest runs, of one flow and one status if these are given."""
    async with await Connection.connect(dsn) as connection:
        found = await summarize_runs(connection, flow_slug=flow, status=status, limit=limit)
        if not found:
            await need_flow(connection, flow)
    return found
