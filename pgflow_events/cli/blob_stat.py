"""`pgflow-events blob stat`."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import click
import trio
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from pgflow_events.cli.command import Command, json_option, print_json
from pgflow_events.cli.console import output_console
from pgflow_events.cli.database import database, dsn_option
from pgflow_events.cli.quantities import size_text
from pgflow_events.connection import Connection
from pgflow_events.inventory import (
    SizeClass,
    StepInventory,
    may_read_values,
    take_inventory,
)
from pgflow_events.texts import duration, printable

COLUMNS = (
    "FLOW", "STEP", "INLINE", "BLOBS", "RAW", "STORED", "RATIO", "COPIES", "LARGEST", "NEWEST",
    "OLDEST", "OF THESE",
)  # fmt: skip
SIZE_COLUMNS = ("SIZE UP TO", "INLINE", "BLOBS", "RAW", "STORED", "RATIO", "BLOBS IF THRESHOLD")


@click.command(
    cls=Command,
    examples=(
        "pgflow-events blob stat",
        "pgflow-events blob stat --flow analyze_website --step website",
        "pgflow-events blob stat --json",
    ),
)
@click.option("--flow", metavar="SLUG", help="Only of this flow.")
@click.option("--step", metavar="SLUG", help="Only of this step; run: the inputs of runs.")
@dsn_option
@json_option
def stat(flow: str | None, step: str | None, dsn: str | None, as_json: bool) -> None:
    """Show what is stored, by flow and step.

    No value is read. The sizes of all steps follow; their last column is how many values would
    be blobs if blob_threshold were that size. Values that stand in rows (inline) are estimated
    from a part of the tables, where these are large. Copies are stored bytes of blobs that are
    equal to another one of the step.
    """
    with database(dsn) as found:
        steps = trio.run(count, found, flow, step)
    if as_json:
        print_json(steps)
    else:
        console = output_console()
        console.print(steps_table(steps))
        console.print()
        console.print(sizes_table(steps))


async def count(dsn: str, flow: str | None, step: str | None) -> list[StepInventory]:
    """What is stored of a flow and step, or of all."""
    async with await Connection.connect(dsn) as connection:
        if not await may_read_values(connection):
            click.echo("values in rows are not counted: this login may not read them", err=True)
        return await take_inventory(connection, flow_slug=flow, step_slug=step)


def steps_table(steps: Sequence[StepInventory]) -> Table:
    """A row for each step."""
    table = new_table(COLUMNS, left={"FLOW", "STEP", "OF THESE"})
    for step in steps:
        table.add_row(
            Text(step.flow_slug or "(gone)"),
            Text(step.step_slug),
            f"{step.inline:,}",
            f"{step.blobs:,}",
            decimal(step.raw_size),
            decimal(step.stored_size),
            ratio(step.raw_size, step.stored_size),
            decimal(step.copied_size),
            decimal(step.largest),
            ago(step.newest),
            ago(step.oldest),
            Text(printable(", ".join(details(step)))),
        )
    return table


def details(step: StepInventory) -> Iterator[str]:
    """How many of the blobs are what."""
    yield from (f"{n:,} {codec}" for codec, n in sorted(step.codecs.items()))
    yield from (f"{n:,} with key {key}" for key, n in sorted(step.keys.items()))
    counted = {
        "in chunks": step.in_chunks,
        "in the object storage": step.in_objects,
        "forgotten": step.forgotten,
        "unfinished": step.unfinished,
    }
    yield from (f"{n:,} {what}" for what, n in counted.items() if n)


def sizes_table(steps: Sequence[StepInventory]) -> Table:
    """A row for each size, with what another threshold would do; the threshold is marked."""
    thresholds = {step.threshold for step in steps}
    table = new_table(SIZE_COLUMNS, left=set())
    classes = [*joined(steps)]
    larger = sum(sizes.inline + sizes.blobs for sizes in classes)
    for sizes in classes:
        larger -= sizes.inline + sizes.blobs
        table.add_row(
            size_text(sizes.up_to),
            f"{sizes.inline:,}",
            f"{sizes.blobs:,}",
            decimal(sizes.raw_size),
            decimal(sizes.stored_size),
            ratio(sizes.raw_size, sizes.stored_size),
            f"{larger:,}",
            end_section=thresholds == {sizes.up_to},
        )
    return table


def joined(steps: Sequence[StepInventory]) -> Iterator[SizeClass]:
    """The sizes of all steps together, without gaps."""
    found = [sizes for step in steps for sizes in step.sizes]
    up_to = min((sizes.up_to for sizes in found), default=0)
    while up_to and up_to <= max(sizes.up_to for sizes in found):
        same = [sizes for sizes in found if sizes.up_to == up_to]
        yield SizeClass(
            up_to,
            sum(sizes.inline for sizes in same),
            sum(sizes.blobs for sizes in same),
            sum(sizes.raw_size for sizes in same),
            sum(sizes.stored_size for sizes in same),
        )
        up_to *= 2


def new_table(columns: Sequence[str], left: set[str]) -> Table:
    """A table with numbers to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(
            name,
            justify="left" if name in left else "right",
            no_wrap=name not in left,
            overflow="fold",
        )
    return table


def ratio(raw: int, stored: int) -> str:
    """How many times smaller the stored bytes are."""
    return f"{raw / stored:.1f}" if stored else ""


def ago(moment: datetime | None) -> str:
    """For how long it has been; the server's clock may be ahead of ours."""
    if moment is None:
        return ""
    seconds = max((datetime.now(UTC) - moment).total_seconds(), 0.0)
    return " ".join(duration(seconds).split()[:2])
