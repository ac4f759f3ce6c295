"""The cost of passing large pages from one step to the next."""

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import orjson
import psycopg
import trio
import zstandard
from psycopg.types.json import Jsonb

from pgflow_events.bench import tables as queries
from pgflow_events.bench.measured import Figures, Measured, latencies, scaled
from pgflow_events.bench.pages import html
from pgflow_events.client.client import connect
from pgflow_events.flow.flow import Flow
from pgflow_events.worker.worker import Worker

PAGES = {3: 31, 20: 9}  # megabytes of a page, and the number of such pages
MB = 1_000_000

Plain = psycopg.Connection[Any]
Write = Callable[[Plain, UUID, str], None]
Read = Callable[[Plain, UUID], str]
Way = tuple[Write, Read, str]


async def payload(dsn: str) -> list[Measured]:
    """HTML of 3 and 20 MB from the end of one handler to the start of the next.

    The floor does the same by hand on one connection: compress, insert, commit, select, decompress.
    A jsonb column is measured for comparison. Stored bytes are those in rows. The WAL is that of
    the whole server.
    """
    return [await passed(dsn, size, scaled(pages)) for size, pages in PAGES.items()]


async def passed(dsn: str, size: int, pages: int) -> Measured:
    """Measure all three ways, with pages of `size` megabytes."""
    page = await trio.to_thread.run_sync(html, scaled(size * MB))
    with psycopg.connect(dsn, autocommit=True) as connection:
        run_sync = trio.to_thread.run_sync
        ours = await hand_over(dsn, connection, f"bench_payload_{size}", page, pages)
        floor = await run_sync(by_hand, connection, page, pages, ZSTD)
        jsonb = await run_sync(by_hand, connection, page, pages, JSONB)
        connection.execute(queries.CLEAR_PAGES)
    return Measured(
        setting=f"{size} MB", unit="ms", ours=ours, floor=floor, beside={"jsonb": jsonb}
    )


async def hand_over(dsn: str, connection: Plain, slug: str, page: str, pages: int) -> Figures:
    """Pass the pages through a worker."""
    flow = Flow(slug, input=int)
    ended: list[float] = []
    seconds: list[float] = []

    @flow.step(flow.input)
    async def website(run: int) -> str:
        content = f"<!-- {run} -->{page}"  # so that no two pages are equal
        ended.append(time.perf_counter())
        return content

    @flow.step(website)
    async def size(content: str) -> int:
        seconds.append(time.perf_counter() - ended[-1])
        return len(content)

    async with trio.open_nursery() as nursery, connect(dsn) as client:
        await nursery.start(Worker([flow], dsn).run)
        wal = queries.scalar(connection, queries.WAL)
        for number in range(pages):
            run = await client.start(flow, number)
            await run.output(size)
        wal = queries.scalar(connection, queries.WAL) - wal
        nursery.cancel_scope.cancel()
    return figures(seconds, queries.scalar(connection, queries.STORED_BLOBS, slug), wal)


def by_hand(connection: Plain, page: str, pages: int, way: Way) -> Figures:
    """Write and read each page, in one of the handwritten ways."""
    write, read, stored = way
    seconds: list[float] = []
    wal = queries.scalar(connection, queries.WAL)
    for number in range(pages):
        content, key = f"<!-- {number} -->{page}", uuid4()
        began = time.perf_counter()
        write(connection, key, content)
        read(connection, key)
        seconds.append(time.perf_counter() - began)
    wal = queries.scalar(connection, queries.WAL) - wal
    return figures(seconds, queries.scalar(connection, stored), wal)


def figures(seconds: list[float], stored: float, wal: float) -> Figures:
    """The latencies, and the bytes of each page."""
    return latencies(seconds) | {
        "bytes stored": stored,
        "WAL bytes": wal / len(seconds),
    }


def write_zstd(connection: Plain, key: UUID, page: str) -> None:
    """Write a page, compressed at the engine's default level."""
    content = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(page.encode())
    connection.execute(queries.WRITE_ZSTD, [key, content])


def read_zstd(connection: Plain, key: UUID) -> str:
    """Read and decompress a page."""
    rows = connection.execute(queries.READ_ZSTD, [key], binary=True).fetchall()
    return zstandard.ZstdDecompressor().decompress(rows[0][0]).decode()


def write_jsonb(connection: Plain, key: UUID, page: str) -> None:
    """Write a page into a jsonb column."""
    connection.execute(queries.WRITE_JSONB, [key, Jsonb(page, dumps=orjson.dumps)])


def read_jsonb(connection: Plain, key: UUID) -> str:
    """Read a page from a jsonb column."""
    rows = connection.execute(queries.READ_JSONB, [key]).fetchall()
    page: str = orjson.loads(rows[0][0])
    return page


ZSTD: Way = write_zstd, read_zstd, queries.STORED_ZSTD
JSONB: Way = write_jsonb, read_jsonb, queries.STORED_JSONB
