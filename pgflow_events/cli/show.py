"""`pgflow-events show`."""

from dataclasses import asdict
from typing import Any
from uuid import UUID

import click
import orjson
import trio

from pgflow_events.cli.command import Command, an_id, json_option, print_json
from pgflow_events.cli.database import database, dsn_option
from pgflow_events.core.identify import refuse_run
from pgflow_events.core.runs import need_flow
from pgflow_events.core.step_summaries import StepSummary, find_input, summarize_steps
from pgflow_events.core.summaries import RunSummary, summarize_runs
from pgflow_events.errors import UnknownRun
from pgflow_events.flow.step_faults import SLUG
from pgflow_events.postgres.connection import Connection
from pgflow_events.terminal.console import output_console
from pgflow_events.terminal.display import least_width, run_tree


def run_or_flow(text: str) -> UUID | str:
    """Parse the id of a run, or the slug of a flow: the `type=` of an argument."""
    try:
        return an_id(text)
    except click.BadParameter:
        if SLUG.fullmatch(text):
            return text
        raise


@click.command(
    cls=Command,
    examples=(
        "pgflow-events show 0199f3a4-7f5e-7cc1-8a52-3f0c2d1b9e6a",
        "pgflow-events show 0199f3a4-7f5e-7cc1-8a52-3f0c2d1b9e6a --json",
        "pgflow-events show analyze_website",
    ),
)
@click.argument("run", type=run_or_flow, metavar="RUN_ID|FLOW")
@click.option("--values", is_flag=True, help="Also show inputs and outputs that are not blobs.")
@dsn_option
@json_option
def show(run: UUID | str, values: bool, dsn: str | None, as_json: bool) -> None:
    """Show a run with its steps. Of a FLOW, show the newest run.

    Each step follows the steps it depends on. It is shown with its status, attempts, duration and
    error, and with --values its output. A map is shown with the numbers of its elements, and one
    of their errors. For an output that is a blob, the command shows only the kind and the sizes.
    """
    with database(dsn) as found:
        summary, steps, given = trio.run(find, found, run, values)
    if as_json:
        print_json(asdict(summary) | given | {"steps": [document(step, values) for step in steps]})
    else:
        console = output_console()
        console.width = max(console.width, least_width(steps))
        console.print(run_tree(summary, steps, values=values))


def document(step: StepSummary, values: bool) -> dict[str, Any]:
    """A step as a JSON object, with its output if `values` is true."""
    fields = asdict(step) | {"output": as_it_is(step.output)}
    return {k: v for k, v in fields.items() if values or k != "output"}


def as_it_is(value: str | None) -> orjson.Fragment | None:
    """Put JSON into JSON unparsed, because Python cannot parse all of it: SQL can store `1e400`."""
    return None if value is None else orjson.Fragment(value)


async def find(
    dsn: str, run: UUID | str, values: bool
) -> tuple[RunSummary, list[StepSummary], dict[str, Any]]:
    """A run, its steps, and its input. The run is named by its id, or is the newest of a flow.

    Raises:
        UnknownRun: No run has this id, or the flow has no run.
        UnknownFlow: There is no such flow.
    """
    async with await Connection.connect(dsn) as connection:
        found = await find_one(connection, run)
        value, blob = await find_input(connection, found.run_id, values=values)
        return (
            found,
            await summarize_steps(connection, found.run_id, values=values),
            ({"input": as_it_is(value)} if values else {}) | {"input_blob": blob},
        )


async def find_one(connection: Connection, run: UUID | str) -> RunSummary:
    """The run of this id, or the newest run of this flow."""
    if isinstance(run, UUID):
        if found := await summarize_runs(connection, run_id=run):
            return found[0]
        raise await refuse_run(connection, run)
    if found := await summarize_runs(connection, flow_slug=run, limit=1):
        return found[0]
    await need_flow(connection, run)
    raise UnknownRun(f"flow {run} has no run yet: start one with `pgflow-events start {run}`")
