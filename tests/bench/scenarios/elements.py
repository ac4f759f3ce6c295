"""A list of 200 pages of 50 kB that is stored by its elements, and each of them fetched by itself.

Beside it, what a list in a jsonb column costs where each task takes its element out of it.
"""

import random
import time
from uuid import UUID

import orjson
import psycopg
from psycopg.types.json import Jsonb

from blobstore import Blobs, Owner, Stored
from blobstore.abc import caller_of
from blobstore.postgres.ids import new_id
from pgflow_events.bench.measured import Measured
from pgflow_events.postgres.connection import Connection
from tests.bench.measuring import html

ELEMENTS = 200
SIZE = 50_000

TABLES = """
create table pgflow_bench.tasks (id integer primary key, output jsonb);
"""


async def elements(dsn: str) -> list[Measured]:
    """A list of 200 pages that is stored by its elements, and each of them fetched by itself."""
    whole = html(ELEMENTS * SIZE)
    pages = [whole[at : at + SIZE] for at in range(0, len(whole), SIZE)]
    random.Random(1).shuffle(pages)
    stored, fetched = await by_element(dsn, pages)
    jsonb_stored, jsonb_fetched = in_jsonb(dsn, pages)
    return [
        Measured(
            unit="ms",
            ours=figures(stored, fetched),
            beside={"jsonb": figures(jsonb_stored, jsonb_fetched)},
        )
    ]


def figures(stored: float, fetched: float) -> dict[str, float]:
    """In milliseconds."""
    return {"both, ms": (stored + fetched) * 1e3, "store, ms": stored * 1e3}


async def by_element(dsn: str, pages: list[str]) -> tuple[float, float]:
    """Seconds, for what a map step will do."""
    async with await Connection.connect(dsn, autocommit=True) as connection:
        run_id: UUID = new_id()
        blobs = Blobs(caller_of(connection))
        began = time.perf_counter()
        kept = await blobs.encode(pages, Owner(run_id), by_element=True)
        assert isinstance(kept, Stored)
        async with connection.transaction():
            await blobs.save(connection, [kept])
        stored = time.perf_counter() - began
        ids = kept.rows[0].elements or []
        began = time.perf_counter()
        for page, element in zip(pages, ids, strict=True):
            assert element
            # Another process fetches it: nothing is in this one's cache.
            loaded = await Blobs(caller_of(connection)).load([element])
            assert await loaded.get(element) == page
        return stored, time.perf_counter() - began


def in_jsonb(dsn: str, pages: list[str]) -> tuple[float, float]:
    """Seconds, for a list in one column."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLES)
        began = time.perf_counter()
        connection.execute(
            "insert into pgflow_bench.tasks values (1, %s)", [Jsonb(pages, dumps=orjson.dumps)]
        )
        stored = time.perf_counter() - began
        began = time.perf_counter()
        for index, page in enumerate(pages):
            rows = connection.execute(
                "select output ->> %s from pgflow_bench.tasks where id = 1", [index]
            ).fetchall()
            assert rows[0][0] == page
        return stored, time.perf_counter() - began
