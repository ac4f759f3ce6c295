"""Keeps a database to one benchmark, and leaves in it what was there before."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import trio

from pgflow_events.bench import tables as queries
from pgflow_events.errors import PgflowError
from pgflow_events.postgres.connection import Connection
from pgflow_events.schema.migrations import check_schema


@contextmanager
def reserved(dsn: str) -> Iterator[None]:
    """Take the slugs that begin with `bench_`, and the schema `pgflow_bench`, for the block.

    What a benchmark left that was killed is removed first.

    Raises:
        PgflowError: A flow has such a slug that no benchmark made, or another benchmark runs.
        MigrationError: The database is not at this release.
    """
    trio.run(check, dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        if not queries.lock(connection):
            raise PgflowError("another benchmark is running on this database")
        queries.clear(connection)
        if slugs := queries.flows(connection):
            raise PgflowError(
                f"there are flows whose names begin with bench_: {', '.join(slugs)}. Benchmarks"
                " take these names and remove what has them: use another database"
            )
        try:
            queries.prepare(connection)
            yield
        finally:
            queries.clear(connection)


async def check(dsn: str) -> None:
    """See that the database is at this release."""
    async with await Connection.connect(dsn) as connection:
        await check_schema(connection)
