"""Lets one benchmark at a time use a database, and removes the benchmark's objects afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import trio

from pgflow_events.bench import tables as queries
from pgflow_events.errors import PgflowError
from pgflow_events.postgres.connection import Connection
from pgflow_events.schema.migrations import check_schema


@contextmanager
def exclusive(dsn: str) -> Iterator[None]:
    """Keep other benchmarks from the flows `bench_...` and the schema `pgflow_bench` meanwhile.

    First remove what a killed benchmark left behind.

    Raises:
        PgflowError: A user's flow has such a slug, or another benchmark is running.
        MigrationError: The database is not at this release.
    """
    trio.run(check, dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        if not queries.lock(connection):
            raise PgflowError("another benchmark is running on this database: wait until it ends")
        queries.clear(connection)
        if slugs := queries.flows(connection):
            raise PgflowError(
                f"there are flows whose names begin with bench_: {', '.join(slugs)}. A benchmark"
                " would delete them: use another database"
            )
        try:
            queries.prepare(connection)
            yield
        finally:
            queries.clear(connection)


async def check(dsn: str) -> None:
    """Check that the database is at this release."""
    async with await Connection.connect(dsn) as connection:
        await check_schema(connection)
