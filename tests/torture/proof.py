"""Proves that nothing is wrong with what was done, or names what is."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier, Literal

from blobstore.abc import caller_of
from pgflow_events.upkeep import checker
from tests.torture.injecting import Happened

HERE = Path(__file__).parent
SOME = 3  # examples that are shown
DEADLOCK = " 40P01 "  # as the server's log has it, see SERVER in __main__.py


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be."""

    name: str
    count: int
    examples: Sequence[str]

    def __str__(self) -> str:
        shown = "".join(f"\n      {example}" for example in self.examples)
        return f"{self.name}: {self.count} times{shown}"


def violation(name: str, found: Sequence[object]) -> Iterator[Violation]:
    """One, if something was found."""
    if found:
        yield Violation(name, len(found), [str(each) for each in found[:SOME]])


def named(file: str) -> dict[str, str]:
    """The queries of a file beside this one, by their names."""
    _, *blocks = (HERE / file).read_text().split("-- name: ")
    return {name: query for name, _, query in (block.partition("\n") for block in blocks)}


def prove(connection: psycopg.Connection[Any]) -> list[Violation]:
    """All invariants of runs, tasks and messages that do not hold."""
    copy_messages(connection)
    connection.execute((HERE / "prepare.sql").read_text().encode())
    cursor = connection.cursor(row_factory=dict_row)
    return [
        found
        for name, query in named("invariants.sql").items()
        for found in violation(name, cursor.execute(query.encode()).fetchall())
    ]


def copy_messages(connection: psycopg.Connection[Any]) -> None:
    """Lay the messages of all queues and archives side by side."""
    slugs = [slug for (slug,) in connection.execute("select flow_slug from pgflow.flows")]
    each = SQL("select {slug}, {archived}, msg_id, message from pgmq.{table}")
    tables = [(slug, archived) for slug in slugs for archived in (False, True)]
    queries = [
        each.format(
            slug=Literal(slug),
            archived=Literal(archived),
            table=Identifier(f"{'a' if archived else 'q'}_{slug.lower()}"),
        )
        for slug, archived in tables
    ]
    make = SQL("create table torture.messages (flow_slug, archived, msg_id, message) as {}")
    connection.execute(make.format(SQL(" union all ").join(queries)))


async def prove_blobs(connection: AsyncConnection[Any]) -> list[Violation]:
    """What is wrong with blobs: one that is missing, left over or damaged."""
    checked = await checker.check(connection)
    await checker.check_contents(caller_of(connection), checked)
    faults = [f"{fault.blob_id}: {fault.fault}" for fault in checked.faults]
    return list(violation("a blob is missing, left over or damaged", faults))


def prove_log(log: Path, happened: Iterable[Happened] = ()) -> list[Violation]:
    """Deadlocks that the server has told of, but for those that a migration may be part of."""
    migrations = [(fault.at, fault.until) for fault in happened if fault.kind == "migrate"]
    with log.open(errors="replace") as lines:
        found = [line.strip() for line in lines if DEADLOCK in line]
    return list(
        violation(
            "a deadlock",
            [
                line
                for line in found
                if not any(at <= moment(line) <= (until or at) + 1 for at, until in migrations)
            ],
        )
    )


def moment(line: str) -> float:
    """When the server has logged this, in seconds since 1970."""
    stamp, _, _ = line.partition(" UTC")
    return datetime.fromisoformat(stamp).replace(tzinfo=UTC).timestamp()
