"""`pgflow-events cancel`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import partial
from uuid import UUID

import click
import trio

from pgflow_events.cli.command import Command, an_id, json_option, print_json, say
from pgflow_events.cli.database import database, dsn_option
from pgflow_events.cli.quantities import age
from pgflow_events.core import runs as queries
from pgflow_events.errors import UnknownRun
from pgflow_events.postgres.connection import Connection
from pgflow_events.schema.migrations import check_schema
from pgflow_events.texts import counted, enumeration

BATCH = 500  # runs in one transaction


@dataclass
class Cancelled:
    """What became of the runs that were named or found."""

    cancelled: list[UUID] = field(default_factory=list)
    ended: list[UUID] = field(default_factory=list)
    """They had ended before, and stay as they are."""
    unknown: list[UUID] = field(default_factory=list)


@click.command(
    cls=Command,
    examples=(
        "pgflow-events cancel 0199f3a4-7f5e-7cc1-8a52-3f0c2d1b9e6a --reason 'wrong address'",
        "pgflow-events cancel --flow analyze_website --older-than 1h",
    ),
)
@click.argument("run_ids", nargs=-1, type=an_id, metavar="[RUN_ID]...")
@click.option("--flow", metavar="SLUG", help="Cancel the runs of this flow that have not ended.")
@click.option(
    "--older-than",
    type=age,
    metavar="AGE",
    help="With --flow: only runs that started longer ago than this, such as 90s, 30m, 12h or 7d.",
)
@click.option("--reason", metavar="TEXT", help="Why, for those that wait for the runs or look.")
@dsn_option
@json_option
def cancel(
    *,
    run_ids: Sequence[UUID],
    flow: str | None,
    older_than: timedelta | None,
    reason: str | None,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Cancel runs, and stop their handlers.

    Nothing more of the runs starts, and workers stop the handlers that run. Runs that have ended
    stay as they are. The exit code is 1 if no run has one of the ids.

    The runs of a flow are cancelled in batches. You can interrupt the command at any moment, and
    call it again to go on.
    """
    if bool(run_ids) == bool(flow):
        raise click.UsageError("give the ids of runs, or --flow")
    if older_than and not flow:
        raise click.UsageError("--older-than needs --flow")
    done, finished = Cancelled(), False
    call = partial(cancel_all, flow=flow, older_than=older_than or timedelta(), reason=reason)
    with database(dsn) as found:
        try:
            trio.run(partial(call, found, run_ids, done=done))
            finished = True
        finally:
            if finished or done != Cancelled():
                tell(done, as_json=as_json)
    if done.unknown:
        raise UnknownRun(f"no run has the id {enumeration([str(run) for run in done.unknown])}")


async def cancel_all(
    dsn: str,
    run_ids: Sequence[UUID],
    *,
    flow: str | None,
    older_than: timedelta,
    reason: str | None,
    done: Cancelled,
) -> None:
    """Cancel these runs, or those of the flow, and note what became of each."""
    async with await Connection.connect(dsn) as connection:
        await check_schema(connection)
        if flow:
            await queries.need_flow(connection, flow)
            run_ids = await queries.find_running(connection, flow, older_than)
        chosen = list(dict.fromkeys(run_ids))
        for start in range(0, len(chosen), BATCH):
            batch = chosen[start : start + BATCH]
            now = set(await queries.cancel_runs(connection, batch, reason))
            there = now.union(await queries.find_among(connection, batch))
            done.cancelled += [run for run in batch if run in now]
            done.ended += [run for run in batch if run in there - now]
            done.unknown += [run for run in batch if run not in there]


def tell(done: Cancelled, *, as_json: bool) -> None:
    """Print what became of the runs."""
    if as_json:
        print_json(asdict(done))
        return
    ended = f"; {counted(len(done.ended), 'run')} had ended before" if done.ended else ""
    say(f"cancelled {counted(len(done.cancelled), 'run')}{ended}")
