"""`pgflow-events blob stat`."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import click
import trio
from rich.text import Text

from pgflow_events.cli.command import Command, json_option, print_json, say
from pgflow_events.cli.database import database, dsn_option
from pgflow_events.cli.quantities import size_text
from pgflow_events.core.runs import need_flow
from pgflow_events.postgres.connection import Connection
from pgflow_events.terminal.console import output_console, print_whole
from pgflow_events.terminal.tables import Column, WholeTable
from pgflow_events.texts import printable, short_duration, size
from pgflow_events.upkeep.inventory import (
    SizeClass,
    StepInventory,
    may_read_values,
    take_inventory,
)

COLUMNS = (
    Column("FLOW"),
    Column("STEP"),
    Column("INLINE", right=True),
    Column("BLOBS", right=True),
    Column("RAW", right=True),
    Column("STORED", right=True, spare=1),
    Column("RATIO", right=True, spare=2),
    Column("COPIES", right=True, spare=5),
    Column("LARGEST", right=True, spare=4),
    Column("NEWEST", right=True, spare=3),
    Column("OLDEST", right=True, spare=6),
    Column("OF THESE", spare=7),
)
SIZE_COLUMNS = tuple(
    Column(name, right=True)
    for name in ("SIZE UP TO", "INLINE", "BLOBS", "RAW", "STORED", "RATIO", "BLOBS IF THRESHOLD")
)


@click.command(
    cls=Command,
    examples=(
        "pgflow-events blob stat",
        "pgflow-events blob stat --flow analyze_website --step website",
        "pgflow-events blob stat --json",
    ),
)
@click.option("--flow", metavar="SLUG", help="Only values of this flow.")
@click.option(
    "--step", metavar="SLUG", help="Only values of this step. The step `run` stands for inputs."
)
@dsn_option
@json_option
def stat(flow: str | None, step: str | None, dsn: str | None, as_json: bool) -> None:
    """Show what is stored, by flow and step.

    The command counts values in rows (INLINE) and blobs, without reading them. COPIES are the
    stored bytes of blobs that equal another blob of their step. In large tables, it estimates the
    inline values from a sample.

    A second table counts the values of all these steps by size. Its last column says how many
    values would be blobs if blob_threshold were that size.
    """
    with database(dsn) as found:
        steps = trio.run(count, found, flow, step)
    if as_json:
        print_json(steps)
    else:
        console = output_console()
        print_whole(console, steps_table(steps), "", sizes_table(steps))


async def count(dsn: str, flow: str | None, step: str | None) -> list[StepInventory]:
    """Take the inventory of a flow and step, or of all."""
    async with await Connection.connect(dsn) as connection:
        if not await may_read_values(connection):
            say("values in rows are not counted: this role may not read them", err=True)
        found = await take_inventory(connection, flow_slug=flow, step_slug=step)
        if not found:
            await need_flow(connection, flow)
    return found


def steps_table(steps: Sequence[StepInventory]) -> WholeTable:
    """A table with a row for each step."""
    return WholeTable(COLUMNS, [step_row(step) for step in steps])


def step_row(step: StepInventory) -> tuple[str | Text, ...]:
    """The row of a step."""
    return (
        Text(printable(step.flow_slug or "(gone)")),
        Text(printable(step.step_slug)),
        f"{step.inline:,}",
        f"{step.blobs:,}",
        size(step.raw_size),
        size(step.stored_size),
        ratio(step.raw_size, step.stored_size),
        size(step.copied_size),
        size(step.largest),
        ago(step.newest),
        ago(step.oldest),
        Text(printable(", ".join(details(step)))),
    )


def details(step: StepInventory) -> Iterator[str]:
    """How many blobs of a step have which property."""
    yield from (f"{n:,} {codec}" for codec, n in sorted(step.codecs.items()))
    yield from (f"{n:,} with key {key}" for key, n in sorted(step.keys.items()))
    counted = {
        "in chunks": step.in_chunks,
        "in the object storage": step.in_objects,
        "forgotten": step.forgotten,
        "unfinished": step.unfinished,
    }
    yield from (f"{n:,} {what}" for what, n in counted.items() if n)


def sizes_table(steps: Sequence[StepInventory]) -> WholeTable:
    """A table with a row for each size. A line follows the size that is the threshold."""
    thresholds = {step.threshold for step in steps}
    classes = [*joined(steps)]
    larger = sum(sizes.inline + sizes.blobs for sizes in classes)
    rows = []
    for sizes in classes:
        larger -= sizes.inline + sizes.blobs
        rows.append(
            (
                size_text(sizes.up_to),
                f"{sizes.inline:,}",
                f"{sizes.blobs:,}",
                size(sizes.raw_size),
                size(sizes.stored_size),
                ratio(sizes.raw_size, sizes.stored_size),
                f"{larger:,}",
            )
        )
    marked = [n for n, sizes in enumerate(classes) if thresholds == {sizes.up_to}]
    return WholeTable(SIZE_COLUMNS, rows, marked)


def joined(steps: Sequence[StepInventory]) -> Iterator[SizeClass]:
    """The sizes of all steps, added up, without gaps."""
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


def ratio(raw: int, stored: int) -> str:
    """How many times smaller the stored bytes are than the raw ones."""
    return f"{raw / stored:.1f}" if stored else ""


def ago(moment: datetime | None) -> str:
    """The time since this moment. The server's clock may be ahead of our clock."""
    if moment is None:
        return ""
    return short_duration((datetime.now(UTC) - moment).total_seconds())
