"""The pool of connections: what it lends, what it takes back, what it drops."""

import math
from contextlib import AsyncExitStack, aclosing
from functools import partial
from random import Random

import psycopg
import pytest
import trio
from psycopg.pq import TransactionStatus
from trio.testing import wait_all_tasks_blocked

from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.pool import Pool

from ...parts.servers.own_server import active, terminate_backends, until


async def backend(conn: Connection) -> int:
    cursor = await conn.execute("select pg_backend_pid()")
    return (await cursor.fetchone())[0]


async def borrowed(pool: Pool) -> int:
    """Borrow a connection and say which."""
    async with pool.connection() as conn:
        return await backend(conn)


async def test_a_connection_is_opened_once_and_used_again(empty_database):
    async with Pool(empty_database) as pool:
        assert await borrowed(pool) == await borrowed(pool)


async def test_the_connection_returned_last_is_lent_first(empty_database):
    async with Pool(empty_database) as pool:
        async with pool.connection(), pool.connection() as inner:
            await backend(inner)
        async with pool.connection() as outer_again, pool.connection() as inner_again:
            assert outer_again is not inner_again
            assert inner_again is inner


async def test_only_what_nobody_used_is_closed_and_never_the_last(empty_database):
    async with Pool(empty_database) as pool:
        lent = pool.connection
        async with lent() as first, lent() as second, lent() as third:
            pass
        open_ones = []
        for used in (2, 2, 1, 1, 0):
            await pool.close_untouched()
            open_ones.append([not conn.closed for conn in (first, second, third)])
            async with AsyncExitStack() as stack:
                for _ in range(used):
                    await stack.enter_async_context(lent())
        await pool.close_untouched()
        assert open_ones == [
            [True, True, True],
            [True, True, False],
            [True, True, False],
            [True, False, False],
            [True, False, False],
        ]
        assert not first.closed


async def test_no_more_connections_are_open_than_allowed(empty_database):
    pids = set()

    async def borrow(pool: Pool) -> None:
        pids.add(await borrowed(pool))

    async with Pool(empty_database, max_size=3) as pool, trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(borrow, pool)
    assert len(pids) == 3


async def test_waiting_too_long_for_a_connection_is_an_error(empty_database):
    async with Pool(empty_database, max_size=1, timeout=0.05) as pool:
        async with pool.connection():
            with pytest.raises(trio.TooSlowError, match="none of the 1 connections"):
                await borrowed(pool)
        await borrowed(pool)


async def test_a_server_that_cannot_be_reached_does_not_use_up_the_pool(tmp_path):
    async with Pool(f"host={tmp_path}", max_size=1, timeout=0.05) as pool:
        for _ in range(2):
            with pytest.raises(psycopg.OperationalError):
                await borrowed(pool)


async def test_an_open_transaction_is_rolled_back_on_return(empty_database):
    async with Pool(empty_database, autocommit=False) as pool:
        async with pool.connection() as conn:
            await conn.execute("create table public.item (id int)")
        async with pool.connection() as again:
            assert again is conn
            assert again.info.transaction_status == TransactionStatus.IDLE
            with pytest.raises(psycopg.errors.UndefinedTable):
                await again.execute("select from public.item")
        async with pool.connection() as again:
            assert again is conn


async def test_a_cancelled_query_costs_the_pool_no_place(empty_database):
    async with Pool(empty_database, max_size=1, timeout=1) as pool:
        async with pool.connection() as conn:
            with trio.move_on_after(0.05):
                await conn.execute("select pg_sleep(30)")
        assert conn.closed
        await borrowed(pool)


async def test_a_connection_that_broke_while_idle_is_replaced(empty_database):
    async with Pool(empty_database) as pool:
        async with pool.connection() as one, pool.connection() as two:
            before = {await backend(one), await backend(two)}
        await terminate_backends(empty_database)
        assert await borrowed(pool) not in before


async def test_a_connection_left_in_a_stream_is_dropped(empty_database):
    async with Pool(empty_database, max_size=1, timeout=1) as pool:
        async with pool.connection() as conn:
            rows = conn.cursor().stream("select generate_series(1, 1000000)")
            assert await anext(rows) == (1,)
        assert conn.closed
        await borrowed(pool)
        await rows.aclose()


async def test_a_connection_that_another_task_still_uses_is_dropped(empty_database):
    async def listen(conn: Connection) -> None:
        with pytest.raises(psycopg.OperationalError):
            await conn.read_notifies()

    async with Pool(empty_database) as pool, trio.open_nursery() as nursery:
        async with pool.connection() as conn:
            await conn.execute("begin")
            nursery.start_soon(listen, conn)
            await wait_all_tasks_blocked()
        assert conn.closed


@pytest.mark.parametrize("open_block", [Connection.transaction, Connection.pipeline])
async def test_a_connection_left_in_a_block_is_dropped(empty_database, open_block):
    async with Pool(empty_database, max_size=1, timeout=1) as pool:
        async with pool.connection() as conn:
            block = open_block(conn)
            await block.__aenter__()
        assert conn.closed
        await borrowed(pool)
        with pytest.raises(psycopg.OperationalError):
            await block.__aexit__(None, None, None)


async def test_a_connection_whose_block_was_committed_behind_its_back_is_dropped(empty_database):
    """The next transaction on it would take itself for one within another."""
    async with Pool(empty_database, max_size=1, timeout=1) as pool:
        async with pool.connection() as conn:
            block = conn.transaction()
            await block.__aenter__()
            await conn.execute("commit")
        assert conn.closed
        async with pool.connection() as conn, conn.transaction():
            await backend(conn)
        with pytest.raises(psycopg.OperationalError):
            await block.__aexit__(None, None, None)


async def test_a_closed_pool_lends_nothing_and_keeps_nothing(empty_database):
    async with Pool(empty_database) as pool:
        await borrowed(pool)
        lent = pool.connection()
        conn = await lent.__aenter__()
    with pytest.raises(RuntimeError, match="closed"):
        await borrowed(pool)
    await conn.execute("select 1")
    await lent.__aexit__(None, None, None)
    assert conn.closed


async def test_in_a_hurry_are_all_connections_those_that_are_prepared_too(empty_database):
    prepared: list[Connection] = []

    async def prepare(conn: Connection) -> None:
        prepared.append(conn)
        if len(prepared) == 3:
            pool.hurry(0.5)

    async with Pool(empty_database, on_connect=prepare) as pool, pool.connection():
        async with pool.connection():
            pass
        async with pool.connection(), pool.connection(), pool.connection():
            pass
    assert [conn.cancel_limit for conn in prepared] == [0.5] * 4


async def test_four_hundred_tasks_cancelled_at_random_leave_a_whole_pool(empty_database):
    random = Random(4)

    series = "select generate_series(1, 2000)"

    async def copy_out(conn: Connection) -> None:
        async with conn.cursor() as cursor, cursor.copy(f"copy ({series}) to stdout") as copy:
            async for _ in copy:
                pass

    async def copy_in(conn: Connection) -> None:
        async with conn.cursor() as cursor, cursor.copy("copy public.item from stdin") as copy:
            for i in range(2000):
                await copy.write_row([i])

    async def pipeline(conn: Connection) -> None:
        async with conn.pipeline():
            for i in range(50):
                await conn.execute("insert into public.item values (%s)", [i])

    async def transaction(conn: Connection) -> None:
        async with conn.transaction():
            await conn.execute("insert into public.item values (1)")
            async with conn.transaction():
                await conn.execute("select pg_sleep(0.002)")

    async def stream(conn: Connection) -> None:
        async with aclosing(conn.cursor().stream(series)) as rows:
            async for _ in rows:
                pass

    operations = [copy_out, copy_in, pipeline, transaction, stream]
    done = dict.fromkeys(operations, 0)

    async def run(operation, seconds: float) -> None:
        with trio.move_on_after(seconds):
            async with pool.connection() as conn:
                await operation(conn)
                done[operation] += 1

    async with Pool(empty_database, max_size=4) as pool:
        async with pool.connection() as conn:
            await conn.execute("create table public.item (id int)")
        for _ in range(10):
            async with trio.open_nursery() as nursery:
                for _ in range(40):
                    seconds = random.choice(
                        [random.uniform(0, 0.05), random.uniform(0, 0.2), math.inf]
                    )
                    nursery.start_soon(run, random.choice(operations), seconds)
        assert all(done.values())
        assert sum(done.values()) < 400
        assert pool._slots.value == 4
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(borrowed, pool)
    await until(partial(nothing_runs, empty_database))


async def nothing_runs(dsn: str) -> bool:
    return not await active(dsn)


async def test_each_new_connection_is_prepared_before_it_is_lent(empty_database):
    async def prepare(conn):
        await conn.execute("set application_name = 'prepared'")

    async with Pool(empty_database, on_connect=prepare) as pool, pool.connection() as conn:
        shown = await conn.execute("show application_name")
        assert await shown.fetchone() == ("prepared",)


async def test_a_connection_that_cannot_be_prepared_is_closed(empty_database):
    opened = []

    async def fail(conn):
        opened.append(conn)
        raise psycopg.OperationalError("no")

    async with Pool(empty_database, max_size=1, timeout=1, on_connect=fail) as pool:
        for _ in range(2):
            with pytest.raises(psycopg.OperationalError, match="no"):
                async with pool.connection():
                    pytest.fail("it was lent")
    assert [conn.closed for conn in opened] == [True, True]
