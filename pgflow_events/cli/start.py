"""`pgflow-events start`."""

import json
import re
import sys
from contextlib import suppress
from datetime import datetime
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import click
import psycopg
import trio

from blobstore.values.refusals import MAX_DEPTH
from pgflow_events.cli.command import (
    Command,
    Failure,
    json_option,
    json_text,
    print_json,
    reason,
    say,
)
from pgflow_events.cli.database import checked, database, dsn_option, listen_dsn_option
from pgflow_events.cli.quantities import finite_seconds, moment, seconds
from pgflow_events.cli.stores import (
    key_ring,
    keys_option,
    object_store,
    objects_option,
    sealed_only_option,
)
from pgflow_events.client.client import Client, connect
from pgflow_events.client.run import Run
from pgflow_events.core import summaries
from pgflow_events.errors import RunFailed, UnknownFlow
from pgflow_events.postgres.connection import Connection
from pgflow_events.texts import size

NUMBER = re.compile(r"-(\d|Infinity).*")
MOST_SHOWN = 100_000  # characters of a result that a terminal gets
PATIENCE = 10.0  # seconds: enough for a worker of many modules to define its flows
PAUSE = 0.2  # seconds between two tries: no notification says that a flow was defined
LIKE = "like this"
SEATING = 0.5  # seconds from the definition of its flows until a worker shows that it is alive


class Start(Command):
    """A command whose argument may be a negative number."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, with a blank before a negative number: otherwise click takes it for an option."""
        return super().parse_args(ctx, [f" {a}" if NUMBER.fullmatch(a) else a for a in args])


def parse_json(ctx: click.Context, param: click.Parameter, value: str) -> Any:
    """Parse the JSON that is given: a text, - for the standard input, or @FILE."""
    try:
        text = text_of(value)
    except OSError as error:
        raise click.BadParameter(f"{error.filename}: {error.strerror}", ctx, param) from error
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"not UTF-8: {error}", ctx, param) from error
    try:
        # Not orjson, which silently makes floats of long integers.
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"not JSON: {fault_of(text, error)}", ctx, param) from error


def text_of(value: str) -> str:
    """The JSON text, without the byte order mark that files on Windows may begin with."""
    if value == "-":
        if sys.stdin is None:  # as after `<&-`; type checkers believe it never is
            raise click.BadParameter("the standard input is closed: give the JSON itself, or @FILE")
        return sys.stdin.buffer.read().decode("utf-8-sig")
    return Path(value[1:]).read_text("utf-8-sig") if value.startswith("@") else value


def fault_of(text: str, error: Exception) -> str:
    """What is wrong with a JSON text, and what to do."""
    if not text.strip():
        return "it is empty; write null for no value"
    if isinstance(error, RecursionError):
        return f"it is nested too deep; use at most {MAX_DEPTH} levels"
    if not isinstance(error, json.JSONDecodeError):
        return "a number in it has thousands of digits; write it as a text, in double quotes"
    if text[0] not in '{["-0123456789':
        return f"{error}; put double quotes around a text: '\"{LIKE}\"'"
    return str(error)


@click.command(
    cls=Start,
    examples=(
        """pgflow-events start analyze_website '{"url": "https://example.org"}'""",
        "pgflow-events start analyze_website @input.json --wait --json",
        "pgflow-events start analyze_website - < input.json",
        "pgflow-events start nightly_report --count 10",
        "pgflow-events start nightly_report --at 2026-12-24T18:00+01:00",
    ),
)
@click.argument("flow")
@click.argument("input_", callback=parse_json, default="{}", metavar="[JSON|-|@FILE]")
@click.option(
    "--count", type=click.IntRange(1, 1_000_000), help="The number of runs to start in one commit."
)
@click.option(
    "--delay",
    type=finite_seconds,
    metavar="SECONDS",
    help="How long workers leave the first tasks of the runs alone.",
)
@click.option(
    "--at",
    type=moment,
    metavar="TIME",
    help="When workers may take the first tasks, such as 2026-12-24T18:00+01:00.",
)
@click.option("--wait", is_flag=True, help="Wait for the runs to end, and print their results.")
@click.option(
    "--patience",
    type=seconds,
    default=PATIENCE,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a worker to define the flow.",
)
@keys_option
@sealed_only_option
@objects_option
@dsn_option
@listen_dsn_option
@json_option
def start(
    *,
    flow: str,
    input_: Any,
    count: int | None,
    delay: float | None,
    at: datetime | None,
    wait: bool,
    patience: float,
    keys: Path | None,
    sealed_only: datetime | None,
    objects: str | None,
    dsn: str | None,
    listen_dsn: str | None,
    as_json: bool,
) -> None:
    """Start runs of a flow.

    FLOW is the slug of a flow. A worker defines it in the database: see --patience. The input of
    the run is a JSON text, - for the standard input, or @FILE for a file. The default is {}.

    Prints the id of each run. With --wait, it prints the result of each run instead, and the exit
    code is 1 if a run fails. With --json, it prints an object, or with --count a list of objects.
    """
    if delay is not None and at is not None:
        raise click.UsageError("give --delay or --at, not both")
    options: dict[str, Any] = {"keys": key_ring(keys), "objects": object_store(objects)}
    options["sealed_only"] = sealed_only
    options["listen_dsn"] = checked(listen_dsn) if listen_dsn else None
    with database(dsn, listen_dsn) as found:
        inputs = [input_] * (count or 1)
        when = {"delay": delay, "at": at}
        runs = trio.run(
            partial(
                start_runs, found, flow, inputs, when=when, wait=wait, patience=patience, **options
            )
        )
    if as_json:
        print_json(runs if count else runs[0])
    for run in () if as_json else runs:
        if "output" in run:
            print_output(run)
        elif not wait:
            say(str(run["run_id"]))
    if errors := [run["error"] for run in runs if "error" in run]:
        raise Failure("; ".join(errors))


def print_output(run: dict[str, Any]) -> None:
    """Print a result. On a terminal, say how to read a very long one instead."""
    text = json_text(run["output"])
    length = size(len(text.encode()))
    if not sys.stdout.isatty() or len(text) <= MOST_SHOWN:
        say(text)
        return
    say(
        f"the output of run {run['run_id']} has {length}, too much for a terminal: send stdout"
        f" to a file or a pager, or run `pgflow-events show {run['run_id']} --values`",
        err=True,
    )


async def start_runs(
    dsn: str,
    flow: str,
    inputs: list[Any],
    *,
    when: dict[str, Any],
    wait: bool,
    patience: float,
    **options: Any,
) -> list[dict[str, Any]]:
    """Start a run for each input. Return its facts, with `wait` also how it ended."""
    async with connect(dsn, **options) as client:
        runs = await start_patiently(client, flow, inputs, when, patience)
        if not wait:
            return [facts(run) for run in runs]
        for run in runs:
            say(f"started run {run.id}", err=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(say_if_alone, dsn, flow)
            outcomes = [facts(run) | await outcome(run) for run in runs]
            nursery.cancel_scope.cancel()
    return outcomes


async def start_patiently(
    client: Client, flow: str, inputs: list[Any], when: dict[str, Any], patience: float
) -> list[Run]:
    """Start the runs. If the flow is unknown, say so and wait for a worker to define it."""
    late, said = trio.current_time() + patience, False
    while True:
        try:
            return await client.start_many(flow, inputs, **when)
        except UnknownFlow as error:
            if trio.current_time() >= late:
                raise
            if not said:
                limit = f" {patience:,g} s" if isfinite(patience) else ""
                say(f"{reason(error)} (waiting{limit} for a worker that does)", err=True)
            said = True
        await trio.sleep(PAUSE)


async def say_if_alone(dsn: str, flow: str) -> None:
    """Say so if no worker of the flow is alive, because the runs then wait."""
    # The role may not be allowed to look. Other errors also reach the task that waits for the runs.
    with suppress(psycopg.Error):
        async with await Connection.connect(dsn) as connection:
            if flow in await summaries.worked_flows(connection):
                return
            await trio.sleep(SEATING)
            if flow in await summaries.worked_flows(connection):
                return
        say(f"no worker of {flow} is known to be alive: waiting for one", err=True)


def facts(run: Run) -> dict[str, Any]:
    """The facts about a run that was just started."""
    return {"run_id": run.id, "flow_slug": run.flow_slug, "status": "started"}


async def outcome(run: Run) -> dict[str, Any]:
    """Wait for a run, and return how it ended."""
    try:
        return {"status": "completed", "output": await run.result()}
    except RunFailed as error:
        return {"status": "failed", "error": reason(error)}
