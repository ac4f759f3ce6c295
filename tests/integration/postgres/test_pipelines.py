"""A pipeline that is cancelled, or shared, or fails where psycopg does not expect it.

`tests/psycopg_matrix.sh` runs this file with each release and implementation of psycopg.
"""

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import trio
from psycopg import errors
from psycopg.pq import PipelineStatus, TransactionStatus
from trio.testing import wait_all_tasks_blocked

from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.pool import Pool


@pytest.fixture
async def conn(empty_database) -> AsyncIterator[Connection[Any]]:
    async with await Connection.connect(empty_database) as conn:
        await conn.execute("create table public.item (id int primary key)")
        yield conn


async def ids(conn: Connection[Any]) -> list[int]:
    return [row[0] async for row in await conn.execute("select id from public.item order by id")]


async def insert_and_read(conn: Connection[Any], scope: trio.CancelScope) -> None:
    """Cancelled with all answers read: libpq calls the connection idle."""
    async with conn.pipeline():
        cursor = await conn.execute("insert into public.item values (1) returning id")
        assert await cursor.fetchone() == (1,)
        assert conn.info.transaction_status != TransactionStatus.ACTIVE
        scope.cancel()
        await trio.lowlevel.checkpoint()


async def insert_unread(conn: Connection[Any], scope: trio.CancelScope) -> None:
    """Cancelled with the answer under way: a Sync to get it would commit."""
    async with conn.pipeline():
        await conn.execute("insert into public.item values (1)")
        scope.cancel()
        await trio.lowlevel.checkpoint()


async def insert_and_leave(conn: Connection[Any], scope: trio.CancelScope) -> None:
    """Cancelled on the way out, where the block itself has come to its end."""
    async with conn.pipeline():
        cursor = await conn.execute("insert into public.item values (1) returning id")
        await cursor.fetchone()
        scope.cancel()


async def insert_nested(conn: Connection[Any], scope: trio.CancelScope) -> None:
    async with conn.pipeline(), conn.pipeline():
        await insert_and_read(conn, scope)


async def insert_many(conn: Connection[Any], scope: trio.CancelScope) -> None:
    def numbers():
        yield (1,)
        scope.cancel()
        yield (2,)

    async with conn.cursor() as cursor:
        await cursor.executemany("insert into public.item values (%s)", numbers(), returning=True)


async def insert_in_transaction(conn: Connection[Any], scope: trio.CancelScope) -> None:
    async with conn.pipeline(), conn.transaction():
        await insert_and_read(conn, scope)


CANCELLED = [
    insert_and_read,
    insert_unread,
    insert_and_leave,
    insert_nested,
    insert_many,
    insert_in_transaction,
]


@pytest.mark.parametrize("cancelled", CANCELLED)
async def test_what_a_cancelled_pipeline_did_is_never_committed(conn, empty_database, cancelled):
    async with Pool(empty_database, max_size=1) as pool:
        with trio.CancelScope() as scope:
            async with pool.connection() as borrowed:
                await cancelled(borrowed, scope)
        assert scope.cancelled_caught
        async with pool.connection() as borrowed:
            await borrowed.execute("select 1")
        assert await ids(conn) == []
        async with conn.transaction():
            # It waits until the server has noticed that the session is gone.
            await conn.execute("lock table public.item in access exclusive mode")


async def test_a_pipeline_cancelled_while_another_task_uses_it_ends_as_cancelled(conn):
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with conn.pipeline():
                cursor = await conn.execute("select pg_sleep(30)")

                async def fetch() -> None:
                    with pytest.raises(psycopg.OperationalError):
                        await cursor.fetchone()

                nursery.start_soon(fetch)
                await wait_all_tasks_blocked()
                scope.cancel()
        assert scope.cancelled_caught
    assert conn.closed


async def test_a_task_cancelled_before_it_sends_spares_the_pipeline_of_another(conn):
    async with conn.pipeline():
        await conn.execute("insert into public.item values (1)")
        with trio.CancelScope() as scope:
            scope.cancel()
            await conn.execute("insert into public.item values (2)")
    assert scope.cancelled_caught
    assert await ids(conn) == [1]


async def enter(conn: Connection[Any]) -> None:
    async with conn.pipeline():
        await conn.execute("select 1")


async def enter_transaction(conn: Connection[Any]) -> None:
    async with conn.transaction(), conn.pipeline():
        await conn.execute("select 1")


async def query_often(conn: Connection[Any]) -> None:
    for number in range(20):
        cursor = await conn.execute("select %s::int", [number])
        assert await cursor.fetchone() == (number,)


async def query_many(conn: Connection[Any]) -> None:
    async with conn.cursor() as cursor:
        await cursor.executemany("select %s::int", [(n,) for n in range(20)], returning=True)
        assert [(await result.fetchone())[0] async for result in cursor.results()] == [*range(20)]


async def query_slowly(conn: Connection[Any]) -> None:
    cursor = await conn.execute("select 7, pg_sleep(0.05)")
    assert (await cursor.fetchone())[0] == 7


@pytest.mark.parametrize("query", [query_slowly, query_often, query_many])
async def test_a_task_that_waits_to_enter_a_pipeline_disturbs_nobody(conn, query):
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(query, conn)
            nursery.start_soon(enter, conn)
            nursery.start_soon(query, conn)


async def test_a_task_that_is_cancelled_before_it_enters_leaves_no_pipeline(conn):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(query_slowly, conn)
        await wait_all_tasks_blocked()
        with trio.move_on_after(0.01) as scope:
            await enter(conn)
        assert scope.cancelled_caught
    assert conn._pipeline is None
    await conn.execute("select 1; select 2")  # which a pipeline could not


async def test_a_pipeline_that_cannot_be_entered_is_none(conn):
    await conn.close()
    with pytest.raises(psycopg.OperationalError, match="closed"):
        await enter(conn)
    assert conn._pipeline is None


async def test_tasks_that_share_a_pipeline_get_their_own_answers(conn):
    async def fetch(number: int) -> None:
        cursor = await conn.execute("select %s::int", [number])
        assert await cursor.fetchone() == (number,)

    async with conn.pipeline(), trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(fetch, number)
    assert conn.info.pipeline_status == PipelineStatus.OFF


async def test_a_pipeline_after_a_stream_gets_whole_answers(conn):
    """The libpq goes on to give single rows, until a query outside of a pipeline."""
    series = "select generate_series(1, 3)"
    rows = [(1,), (2,), (3,)]
    async with conn.cursor() as cursor:
        assert [row async for row in cursor.stream(series)] == rows
        async with conn.pipeline():
            assert await (await conn.execute(series)).fetchall() == rows
        assert [row async for row in cursor.stream(series)] == rows
        await cursor.executemany(series + " where %s", [(True,), (False,)], returning=True)
        assert [await answer.fetchall() async for answer in cursor.results()] == [rows, []]


async def test_a_row_factory_that_fails_leaves_the_others_their_answers(conn):
    def fail(_cursor):
        raise ZeroDivisionError

    failing = conn.cursor(row_factory=fail)
    cursors = []

    async def query() -> None:
        async with conn.pipeline():
            await conn.execute("select pg_sleep(0.02)")  # so that all answers come together
            await failing.execute("select 'none'")
            cursors.extend([await conn.execute("select %s::int", [n]) for n in range(5)])

    with pytest.raises(psycopg.ProgrammingError, match="cannot make rows"):
        await query()
    assert [await cursor.fetchone() for cursor in cursors] == [(n,) for n in range(5)]


async def test_an_error_that_another_task_has_read_is_that_of_its_cursor(conn):
    async with conn.pipeline():
        # It fails when both are sent: the answer to the first may arrive while the second is sent.
        failed = await conn.execute("select 1 / (select 0 * count(*) from pg_sleep(0.3))")
        skipped = await conn.execute("select 1")
        with pytest.raises(errors.DivisionByZero):
            await skipped.fetchone()
        with pytest.raises(errors.DivisionByZero):
            await failed.fetchone()
        with pytest.raises(errors.PipelineAborted):
            await skipped.fetchone()


async def test_many_rows_whose_commit_fails_say_why(conn):
    """The Sync of executemany() has two answers then, as any other."""
    await conn.execute(
        "create table public.part (of int references public.item deferrable initially deferred)"
    )
    for _ in range(20):
        with pytest.raises(errors.ForeignKeyViolation):
            async with conn.cursor() as cursor:
                await cursor.executemany("insert into public.part values (%s)", [(1,), (2,)])
        assert await ids(conn) == []


async def test_a_server_cursor_is_closed_where_its_block_is_cancelled(conn):
    async with conn.transaction():
        for _ in range(2):
            with trio.CancelScope() as scope:
                async with conn.cursor("walk") as cursor:
                    await cursor.execute("select generate_series(1, 100)")
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
            assert scope.cancelled_caught
            assert cursor.closed
        assert await ids(conn) == []


async def test_a_server_cursor_is_closed_where_its_query_is_cancelled(conn):
    with trio.CancelScope() as scope:
        async with conn.transaction(), conn.cursor("walk") as cursor:
            await cursor.execute("select pg_sleep(30)")
            scope.deadline = trio.current_time() + 0.1  # it is sent by then
            await cursor.fetchone()
    assert cursor.closed
    assert conn.closed


async def test_a_server_cursor_is_closed_where_the_server_is_gone(conn, empty_database):
    async def walk() -> None:
        async with conn.transaction(), conn.cursor("walk", withhold=True) as cursor:
            await cursor.execute("select 1")
            await conn.execute("select pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(psycopg.OperationalError):
        await walk()
