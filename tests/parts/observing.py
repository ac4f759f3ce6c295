"""What can be seen from outside: rows, the log, and the server's count of statements."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from psycopg.rows import TupleRow, namedtuple_row

from pgflow_events.postgres.connection import Connection

RESET = """
select public.pg_stat_statements_reset(0, d.oid) from pg_database d
where datname = current_database()
"""
CALLS = """
select query, calls::integer
from public.pg_stat_statements s join pg_database d on d.oid = s.dbid
where datname = current_database() and query not like '%pg_stat_statements%'
"""
# What a statement is counted as: the first of these it holds, or its own text.
KINDS = (
    "pgflow_queues.claim_",
    "fail_lapsed_tasks",
    "complete_tasks",
    "notify_owed",
    "pg_notification_queue_usage",
    "start_flows",
    "output_blobs",
)


async def rows(database: str, query: str, *params: Any) -> list[Any]:
    """The answer to one query, as named tuples."""
    async with await Connection.connect(database, row_factory=namedtuple_row) as connection:
        return await (await connection.execute(query, params)).fetchall()


async def execute(database: str, *statements: str) -> None:
    """Run statements without an answer, each in a transaction of its own."""
    async with await Connection.connect(database) as connection:
        for statement in statements:
            await connection.execute(statement)


async def until(happened: Callable[[], Awaitable[object]]) -> None:
    """Return when it has happened: for what tells nobody."""
    with trio.fail_after(10):
        while not await happened():  # noqa: ASYNC110 - there is no event
            await trio.sleep(0.01)


async def logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Return when the log says so."""

    async def said() -> bool:
        return text in caplog.text

    await until(said)


class Statements:
    """Counts the statements of all sessions of a database but its own."""

    def __init__(self, connection: Connection[TupleRow]) -> None:
        self._connection = connection

    async def reset(self) -> None:
        await self._connection.execute(RESET)

    async def counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for text, calls in await (await self._connection.execute(CALLS)).fetchall():
            kind = next((kind for kind in KINDS if kind in text), text)
            counts[kind] = counts.get(kind, 0) + calls
        return counts

    async def settle(self) -> None:
        """Return when nothing was asked for a while; then count from zero."""
        counts = await self.counts()
        with trio.fail_after(10):
            while True:
                await trio.sleep(0.1)
                before, counts = counts, await self.counts()
                if counts == before:
                    return await self.reset()


@asynccontextmanager
async def counting(database: str) -> AsyncIterator[Statements]:
    """Count from now on."""
    async with await Connection.connect(database) as connection:
        await connection.execute("create extension if not exists pg_stat_statements schema public")
        statements = Statements(connection)
        await statements.reset()
        yield statements
