"""HTML of 3 and 20 MB from one step to the next: time, bytes in the database, WAL.

Beside it, in the same run: the floor (compress, insert, commit, select, decompress, by hand on one
connection) and what a design with a jsonb column pays (insert, commit, select), as peers do.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import orjson
import psycopg
import trio
import zstandard
from psycopg.types.json import Jsonb

from pgflow_events import Flow, Worker, connect
from tests.bench.measuring import html, percentile

RUNS = 9
MB = 1_000_000

TABLES = """
drop schema if exists bench cascade;
create schema bench;
create table bench.floor (id uuid primary key, content bytea);
alter table bench.floor alter content set storage external;
create table bench.jsonb (id uuid primary key, content jsonb);
"""

GROWTH = """
select pg_database_size(current_database()), pg_current_wal_lsn() - '0/0'::pg_lsn
"""


@dataclass
class Cost:
    """Of one way to pass pages on."""

    seconds: list[float] = field(default_factory=list)
    stored: float = 0
    """Bytes the database grew for each page."""
    wal: float = 0
    """Bytes of WAL for each page."""


async def measure(dsn: str) -> dict[str, Any]:
    """Medians, for each size."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLES)
    result: dict[str, Any] = {}
    for size in (3, 20):
        page = html(size * MB)
        ours = await hand_over(dsn, page)
        floor = await trio.to_thread.run_sync(by_hand, dsn, page, write_zstd, read_zstd)
        jsonb = await trio.to_thread.run_sync(by_hand, dsn, page, write_jsonb, read_jsonb)
        for name, cost in (("ours", ours), ("floor", floor), ("jsonb", jsonb)):
            result[f"{size} MB, {name} p50 ms"] = percentile(cost.seconds, 0.5) * 1e3
        result |= {
            f"{size} MB, ours / floor": percentile(ours.seconds, 0.5)
            / percentile(floor.seconds, 0.5),
            f"{size} MB, bytes stored / jsonb": ours.stored / jsonb.stored,
            f"{size} MB, WAL / jsonb": ours.wal / jsonb.wal,
        }
    return result


async def hand_over(dsn: str, page: str) -> Cost:
    """Seconds from the end of the first handler to the start of the second."""
    flow = Flow("bench_payload", input=int)
    cost = Cost()
    ended: list[float] = []

    @flow.step(flow.input)
    async def website(run: int) -> str:
        content = f"<!-- {run} -->{page}"  # none is like another
        ended.append(time.perf_counter())
        return content

    @flow.step(website)
    async def size(content: str) -> int:
        cost.seconds.append(time.perf_counter() - ended[-1])
        return len(content)

    async with trio.open_nursery() as nursery, connect(dsn) as client:
        await nursery.start(Worker([flow], dsn).run)
        before = growth(dsn)
        for number in range(RUNS):
            run = await client.start(flow, number)
            assert await run.output(size) > len(page)
        cost.stored, cost.wal = grown(dsn, before)
        nursery.cancel_scope.cancel()
    return cost


def growth(dsn: str) -> tuple[int, int]:
    """Bytes of the database, and of WAL so far, right after a checkpoint."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("checkpoint")
        size, wal = connection.execute(GROWTH).fetchall()[0]
        return int(size), int(wal)


def grown(dsn: str, before: tuple[int, int]) -> tuple[float, float]:
    """What came to it since then, for each of the runs."""
    after = growth(dsn)
    return (after[0] - before[0]) / RUNS, (after[1] - before[1]) / RUNS


Write = Callable[[psycopg.Connection[Any], UUID, str], None]
Read = Callable[[psycopg.Connection[Any], UUID], str]


def by_hand(dsn: str, page: str, write: Write, read: Read) -> Cost:
    """Seconds to write a page and read it again."""
    cost = Cost()
    before = growth(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        for number in range(RUNS):
            content, key = f"<!-- {number} -->{page}", uuid4()
            began = time.perf_counter()
            write(connection, key, content)
            assert read(connection, key) == content
            cost.seconds.append(time.perf_counter() - began)
    cost.stored, cost.wal = grown(dsn, before)
    return cost


def write_zstd(connection: psycopg.Connection[Any], key: UUID, page: str) -> None:
    """As small as our default makes it."""
    content = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(page.encode())
    connection.execute("insert into bench.floor values (%s, %b)", [key, content])


def read_zstd(connection: psycopg.Connection[Any], key: UUID) -> str:
    """The page again."""
    rows = connection.execute(
        "select content from bench.floor where id = %s", [key], binary=True
    ).fetchall()
    return zstandard.ZstdDecompressor().decompress(rows[0][0]).decode()


def write_jsonb(connection: psycopg.Connection[Any], key: UUID, page: str) -> None:
    """As a step output in a jsonb column."""
    connection.execute(
        "insert into bench.jsonb values (%s, %s)", [key, Jsonb(page, dumps=orjson.dumps)]
    )


def read_jsonb(connection: psycopg.Connection[Any], key: UUID) -> str:
    """The page again."""
    rows = connection.execute(
        "select content::text from bench.jsonb where id = %s", [key]
    ).fetchall()
    page: str = orjson.loads(rows[0][0])
    return page
