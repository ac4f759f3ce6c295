"""`pgflow-events blob check`."""

from dataclasses import asdict
from pathlib import Path

import click
import trio
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from blobstore import BlobStore, Keys
from blobstore.abc import caller_of
from pgflow_events.cli.command import Command, json_option, print_json, say
from pgflow_events.cli.database import database, dsn_option
from pgflow_events.cli.stores import (
    key_ring,
    keys_option,
    object_store,
    objects_option,
)
from pgflow_events.postgres.connection import Connection
from pgflow_events.schema.migrations import check_schema
from pgflow_events.terminal.console import output_console, print_whole
from pgflow_events.texts import counted, duration, printable, size
from pgflow_events.upkeep import checker
from pgflow_events.upkeep.checker import Checked

NEWS = 2.0  # seconds between two lines that report progress


@click.command(
    cls=Command,
    examples=("pgflow-events blob check", "pgflow-events blob check --deep --keys keys --json"),
)
@click.option("--deep", is_flag=True, help="Also read all contents, and compare their digests.")
@keys_option
@objects_option
@dsn_option
@json_option
def check(
    *, deep: bool, keys: Path | None, objects: str | None, dsn: str | None, as_json: bool
) -> None:
    """Find blobs that are lost, left over or damaged.

    Checks that some run refers to each blob, and that each blob a run refers to exists and has all
    of its bytes. Workers may run meanwhile. The exit code is 1 if something is wrong.

    With --deep, encrypted blobs need --keys, and blobs in an object storage need --objects.
    Without these options, such blobs count as not checked.
    """
    ring, store = (key_ring(keys), object_store(objects)) if deep else (None, None)
    with database(dsn) as found:
        checked = trio.run(look, found, deep, ring, store)
    if as_json:
        print_json(asdict(checked) | {"ok": not checked.faults})
    else:
        print_whole(output_console(), *shown(checked, deep=deep))
    click.get_current_context().exit(int(bool(checked.faults)))


async def look(dsn: str, deep: bool, keys: Keys | None, objects: BlobStore | None) -> Checked:
    """Check the rows, and the contents if `deep` is true."""
    async with await Connection.connect(dsn) as connection:
        await check_schema(connection)
        checked = await checker.check(connection)
        if deep:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(say_how_far, checked)
                await checker.check_contents(
                    caller_of(connection), checked, keys=keys, objects=objects
                )
                nursery.cancel_scope.cancel()
        return checked


async def say_how_far(checked: Checked) -> None:
    """Report on stderr, every two seconds, how many blobs were read."""
    while True:
        await trio.sleep(NEWS)
        say(f"read so far: {checked.verified:,} of {counted(checked.blobs, 'blob')}", err=True)


def shown(checked: Checked, *, deep: bool) -> list[RenderableType]:
    """A table of what was checked, and a line for each fault."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row("blobs", f"{checked.blobs:,}")
    table.add_row("bytes", size(checked.stored_bytes))
    table.add_row("chunks", f"{checked.chunks:,}")
    table.add_row("forgotten", f"{checked.forgotten:,}")
    age = checked.oldest_unfinished
    begun = "" if age is None else f", the oldest for {duration(age)}"
    table.add_row("being written", f"{checked.unfinished:,}{begun}")
    if deep:
        table.add_row("read", f"{checked.verified:,}")
    for reason, count in checked.not_checked.items():
        table.add_row("not checked", f"{count:,}: {printable(reason)}")
    table.add_row("faults", f"{len(checked.faults) + checked.more:,}")
    lines = [Text(f"blob {fault.blob_id}: {printable(fault.fault)}") for fault in checked.faults]
    more = [Text(f"and {checked.more:,} more")] if checked.more else []
    return [table, *lines, *more]
