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
from pgflow_events.core.step_summaries import StepSummary, find_input, summarize_steps
from pgflow_events.core.summaries import RunSummary, summarize_runs
from pgflow_events.postgres.connection import Connection
from pgflow_events.terminal.console import output_console
from pgflow_events.terminal.display import least_width, run_tree


@click.command(
    cls=Command,
    examples=(
        "pgflow-events show 0199f3a4-7f5e-7cc1-8a52-3f0c2d1b9e6a",
        "pgflow-events show 0199f3a4-7f5e-7cc1-8a52-3f0c2d1b9e6a --json",
    ),
)
@click.argument("run_id", type=an_id, metavar="RUN_ID")
@click.option("--values", is_flag=True, help="Also show inputs and outputs that are not blobs.")
@dsn_option
@json_option
def show(run_id: UUID, values: bool, dsn: str | None, as_json: bool) -> None:
    """Show a run with its steps.

    Each step follows the steps it depends on. It is shown with its status, attempts, duration and
    error, and with --values its output. A map is shown with the numbers of its elements, and one
    of their errors. For an output that is a blob, the command shows only the kind and the sizes.
    """
    with database(dsn) as found:
        run, steps, given = trio.run(find, found, run_id, values)
    if as_json:
        print_json(asdict(run) | given | {"steps": [document(step, values) for step in steps]})
    else:
        console = output_console()
        console.width = max(console.width, least_width(steps))
        console.print(run_tree(run, steps, values=values))


def document(step: StepSummary, values: bool) -> dict[str, Any]:
    """A step as a JSON object, with its output if `values` is true."""
    fields = asdict(step) | {"output": as_it_is(step.output)}
    return {k: v for k, v in fields.items() if values or k != "output"}


def as_it_is(value: str | None) -> orjson.Fragment | None:
    """Put JSON into JSON unparsed, because Python cannot parse all of it: SQL can store `1e400`."""
    return None if value is None else orjson.Fragment(value)


async def find(
    dsn: str, run_id: UUID, values: bool
) -> tuple[RunSummary, list[StepSummary], dict[str, Any]]:
    """A run, its steps, and its input.

    Raises:
        UnknownRun: No run has this id.
    """
    async with await Connection.connect(dsn) as connection:
        found = await summarize_runs(connection, run_id=run_id)
        if not found:
            raise await refuse_run(connection, run_id)
        value, blob = await find_input(connection, run_id, values=values)
        return (
            found[0],
            await summarize_steps(connection, run_id, values=values),
            ({"input": as_it_is(value)} if values else {}) | {"input_blob": blob},
        )
