"""`pgflow-events prune`."""

import signal
from dataclasses import asdict, replace
from datetime import timedelta

import click
import trio
from rich.table import Table

from blobstore.abc import caller_of
from pgflow_events.cli.command import INTERRUPTED, Command, json_option, print_json, say
from pgflow_events.cli.database import database, dsn_option
from pgflow_events.cli.quantities import age
from pgflow_events.postgres.connection import Connection
from pgflow_events.schema.migrations import check_schema
from pgflow_events.terminal.console import output_console
from pgflow_events.texts import counted, size
from pgflow_events.upkeep import retention
from pgflow_events.upkeep.retention import Pruned

NEWS = 2.0  # seconds between two lines that report progress


@click.command(
    cls=Command,
    examples=(
        "pgflow-events prune --older-than 7d",
        "pgflow-events prune --older-than 12h --dry-run --json",
    ),
)
@click.option(
    "--older-than",
    type=age,
    required=True,
    metavar="AGE",
    help="How long to keep runs after their end, such as 90s, 30m, 12h, 7d or 2w.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and delete nothing.")
@dsn_option
@json_option
def prune(*, older_than: timedelta, dry_run: bool, dsn: str | None, as_json: bool) -> None:
    """Delete old runs, with their tasks, blobs and messages.

    Deletes runs that ended longer ago than --older-than, with their tasks, blobs and archived
    messages. It also deletes the bytes of blobs that are past the keep_output of their step. It
    keeps all runs that have not ended.

    Workers may run meanwhile. You can interrupt the command at any moment, and call it again to
    go on.
    """
    pruned, finished = Pruned(), False
    with database(dsn) as found:
        try:
            if dry_run:
                pruned, finished = trio.run(look, found, older_than), True
            else:
                finished = trio.run(prune_until_interrupted, found, older_than, pruned)
        finally:
            if finished or pruned != Pruned():
                tell(pruned, as_json=as_json, dry_run=dry_run, finished=finished)
    if not finished:
        say("interrupted: call it again to delete the rest", err=True)
        click.get_current_context().exit(INTERRUPTED)


async def look(dsn: str, older_than: timedelta) -> Pruned:
    """Count what a real call would delete."""
    async with await Connection.connect(dsn) as connection:
        await check_schema(connection)
        make = caller_of(connection)
        return await retention.prunable(make, await retention.cutoff(make, older_than))


async def prune_until_interrupted(dsn: str, older_than: timedelta, pruned: Pruned) -> bool:
    """Prune until done, or until SIGINT or SIGTERM. Return whether it is done."""
    finished = False
    async with trio.open_nursery() as nursery:
        await nursery.start(heed_signals, nursery.cancel_scope)
        async with await Connection.connect(dsn) as connection:
            await check_schema(connection)
            nursery.start_soon(say_how_far, pruned)
            make = retention.again(caller_of(connection))
            await retention.prune(make, await retention.cutoff(make, older_than), pruned)
        finished = True
        nursery.cancel_scope.cancel()
    return finished


async def heed_signals(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Cancel the scope at the first signal."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        task_status.started()
        async for _ in received:
            scope.cancel()


async def say_how_far(pruned: Pruned) -> None:
    """Report on stderr, every two seconds, what was deleted so far."""
    told = replace(pruned)
    while True:
        await trio.sleep(NEWS)
        if pruned != told:
            told = replace(pruned)
            say(
                f"deleted so far: {counted(pruned.runs, 'run')}, {counted(pruned.blobs, 'blob')},"
                f" {size(pruned.bytes)}, {counted(pruned.messages, 'message')}",
                err=True,
            )


def tell(pruned: Pruned, *, as_json: bool, dry_run: bool, finished: bool) -> None:
    """Print what was deleted, or would be."""
    if as_json:
        print_json(asdict(pruned) | {"dry_run": dry_run, "finished": finished})
    else:
        output_console().print(pruned_table(pruned, "would be deleted" if dry_run else "deleted"))


def pruned_table(pruned: Pruned, title: str) -> Table:
    """A table of what was deleted, with a row for each kind."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(title)
    table.add_column("", justify="right")
    for name, count in (
        ("days of blobs", len(pruned.days)),
        ("runs", pruned.runs),
        ("tasks", pruned.tasks),
        ("blobs", pruned.blobs),
        ("blobs forgotten", pruned.forgotten),
        ("archived messages", pruned.messages),
        ("dictionaries", pruned.dictionaries),
    ):
        table.add_row(name, f"{count:,}")
    table.add_row("bytes of blobs", size(pruned.bytes))
    if pruned.busy_days:
        days = ", ".join(map(str, pruned.busy_days))
        table.add_row(f"in use, left for the next call: {days}", "")
    return table
