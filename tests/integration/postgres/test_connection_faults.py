"""What becomes of a connection when a task is cancelled, or the server or its link fails."""

import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.waiting import READ, WRITE, until_ready

from ...parts.servers.own_server import OwnServer, active, own_server, terminate_backends, until
from ...parts.servers.proxy import Proxy

HUGE = b"x" * 30_000_000  # more than the buffers of a socket hold
SLACK = 2.0  # seconds: the machine may be busy


@pytest.fixture
async def conn(empty_database) -> AsyncIterator[Connection]:
    async with await Connection.connect(empty_database) as conn:
        await conn.execute("create table public.item (id int primary key)")
        yield conn


@pytest.fixture(scope="module")
def own() -> Iterator[OwnServer]:
    with own_server() as server:
        yield server


async def ids(dsn: str) -> list[int]:
    async with await Connection.connect(dsn) as conn:
        return [
            row[0] async for row in await conn.execute("select id from public.item order by id")
        ]


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@contextmanager
def frozen(*pids: int) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def none_active(dsn: str) -> bool:
    return not await active(dsn)


async def alone(dsn: str) -> bool:
    """Say whether no backend is left from the connections closed so far."""
    async with await Connection.connect(dsn) as conn:
        query = """
            select count(*) from pg_stat_activity
            where datname = current_database() and backend_type = 'client backend'
        """
        return await (await conn.execute(query)).fetchone() == (1,)


async def one_active(dsn: str) -> bool:
    return len(await active(dsn)) == 1


async def test_two_hundred_cancelled_queries_leave_none_running_and_nothing_open(empty_database):
    random = Random(1)
    await trio.to_thread.run_sync(int)  # threads that stay open files are there from now on
    before = open_files()
    cancelled = 0

    async def query_and_cancel() -> None:
        nonlocal cancelled
        conn = await Connection.connect(empty_database)
        for number in range(50):
            with trio.move_on_after(random.uniform(0, 0.01)) as scope:
                await conn.execute("select pg_sleep(%s)", [random.choice([0, 0.002, 5])])
            cancelled += scope.cancelled_caught
            if conn.closed:
                conn = await Connection.connect(empty_database)
            cursor = await conn.execute("select %s::int", [number])
            assert await cursor.fetchone() == (number,)
        await conn.close()

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(query_and_cancel)
    assert cancelled > 50
    await until(partial(none_active, empty_database), within=1)
    assert open_files() == before


async def test_a_cancel_request_that_overtakes_its_query_is_repeated(empty_database, nursery):
    proxy = Proxy(empty_database)
    await nursery.start(proxy.run)
    async with await Connection.connect(proxy.dsn) as conn:
        proxy.delay = 0.15
        with trio.move_on_after(0.01):
            await conn.execute("select pg_sleep(30)")
    await until(partial(alone, empty_database), within=1)


async def test_two_hundred_cancelled_transactions_commit_exactly_the_blocks_that_finish(
    empty_database,
):
    random = Random(2)
    finished = []
    conn = await Connection.connect(empty_database)
    await conn.execute("create table public.item (id int primary key)")

    async def insert_nested(number: int) -> None:
        async with conn.transaction():
            await conn.execute("insert into public.item values (%s)", [number])
            async with conn.transaction():
                await conn.execute("insert into public.item values (%s)", [-number])

    for number in range(1, 201):
        with trio.move_on_after(random.uniform(0, 0.004)):
            await insert_nested(number)
            finished.append(number)
        if conn.closed:
            conn = await Connection.connect(empty_database)
    await conn.close()
    assert 0 < len(finished) < 200
    assert await ids(empty_database) == sorted(finished + [-number for number in finished])


async def test_a_hundred_cancelled_connects_leave_nothing_open(empty_database):
    random = Random(3)
    await trio.to_thread.run_sync(int)
    before = open_files()
    for _ in range(100):
        with trio.move_on_after(random.uniform(0, 0.008)):
            async with await Connection.connect(empty_database):
                pass
    assert open_files() == before


async def test_a_cancellation_before_anything_is_sent_spares_the_connection(conn):
    with trio.CancelScope() as scope:
        scope.cancel()
        await conn.execute("select 1")
    assert scope.cancelled_caught
    assert await (await conn.execute("select 2")).fetchone() == (2,)


async def copy_half_way(conn: Connection[Any]) -> None:
    async with conn.cursor() as cursor, cursor.copy("copy public.item from stdin") as copy:
        await copy.write_row([1])
        await trio.sleep_forever()


async def pipeline_half_way(conn: Connection[Any]) -> None:
    async with conn.pipeline():
        await conn.execute("insert into public.item values (1)")
        await trio.sleep_forever()


@pytest.mark.parametrize("half_way", [copy_half_way, pipeline_half_way])
async def test_what_is_cancelled_half_way_is_undone_at_once(conn, empty_database, half_way):
    started = trio.current_time()
    with trio.move_on_after(0.05):
        async with conn.transaction():
            await half_way(conn)
    assert conn.closed
    assert trio.current_time() - started < 0.05 + 0.28  # not three intervals of 0.1
    await until(partial(none_active, empty_database))
    assert await ids(empty_database) == []


async def commit_slowly(conn: Connection[Any], seconds: float) -> None:
    """Have each transaction that inserts an item wait before it commits."""
    await conn.execute(f"""
        create function public.wait() returns trigger language plpgsql
        as 'begin perform pg_sleep({seconds}); return null; end';
        create constraint trigger wait after insert on public.item deferrable initially deferred
        for each row execute function public.wait();
    """)


async def insert_and_cancel_the_commit(conn: Connection[Any]) -> bool:
    """Say whether the block finished."""
    with trio.CancelScope() as scope:
        async with conn.transaction():
            await conn.execute("insert into public.item values (1)")
            scope.deadline = trio.current_time() + 0.02
        return True
    return False


async def test_a_commit_under_way_outlasts_a_cancellation(conn, empty_database):
    await commit_slowly(conn, 0.1)
    assert await insert_and_cancel_the_commit(conn)
    assert not conn.closed
    assert await ids(empty_database) == [1]


async def test_a_cancelled_commit_that_takes_longer_than_the_grace_is_stopped(conn, empty_database):
    await commit_slowly(conn, 30)
    conn.cancel_limit = 0.1
    started = trio.current_time()
    assert not await insert_and_cancel_the_commit(conn)
    assert trio.current_time() - started < 0.3 + SLACK
    assert conn.closed
    await until(partial(none_active, empty_database))
    assert await ids(empty_database) == []


async def test_a_block_that_is_cancelled_before_it_ends_does_not_commit(conn, empty_database):
    with trio.CancelScope() as scope:
        async with conn.transaction():
            await conn.execute("insert into public.item values (1)")
            scope.cancel()
    assert scope.cancelled_caught
    assert not conn.closed
    assert await ids(empty_database) == []


async def cancel_a_block_while_another_task_queries(conn: Connection[Any], dsn: str) -> None:
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with conn.transaction():
                await conn.execute("insert into public.item values (1)")
                nursery.start_soon(conn.execute, "select pg_sleep(0.2)")
                await until(partial(one_active, dsn))
                scope.cancel()


async def test_a_cancelled_block_waits_for_another_task_that_uses_the_connection(
    conn, empty_database
):
    await cancel_a_block_while_another_task_queries(conn, empty_database)
    assert not conn.closed
    assert await ids(empty_database) == []


async def test_a_cancelled_block_waits_for_another_task_no_longer_than_the_grace(
    conn, empty_database
):
    conn.cancel_limit = 0.02
    with pytest.RaisesGroup(psycopg.OperationalError):
        await cancel_a_block_while_another_task_queries(conn, empty_database)
    assert conn.closed
    assert await ids(empty_database) == []


async def test_a_commit_that_nobody_cancels_may_take_longer_than_the_grace(conn, empty_database):
    await commit_slowly(conn, 0.2)
    conn.cancel_limit = 0.05
    async with conn.transaction():
        await conn.execute("insert into public.item values (1)")
    assert await ids(empty_database) == [1]


async def test_a_terminated_backend_fails_its_query(conn, empty_database):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails, conn, "select pg_sleep(30)")
        await until(partial(one_active, empty_database))
        await terminate_backends(empty_database)
    assert conn.broken


async def fails(conn: Connection[Any], query: str, *params: Any) -> None:
    with pytest.raises(psycopg.OperationalError):
        await conn.execute(query, params or None)


async def test_closing_wakes_the_task_that_waits_and_stops_its_query(conn, empty_database):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails, conn, "select pg_sleep(30)")
        await until(partial(one_active, empty_database))
        await conn.close()
    await until(partial(none_active, empty_database))


async def test_closing_stops_a_task_that_never_has_to_wait(empty_database):
    async def send_for_ever(conn: Connection[Any], under_way: trio.Event) -> None:
        async with conn.pipeline():
            while True:
                await conn.execute("select 1")
                under_way.set()

    async def closed(conn: Connection[Any], under_way: trio.Event) -> None:
        with pytest.raises(psycopg.OperationalError):
            await send_for_ever(conn, under_way)

    for _ in range(40):
        conn = await Connection.connect(empty_database)
        under_way = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(closed, conn, under_way)
            await under_way.wait()
            await conn.close()


async def test_closing_wakes_the_task_that_waits_for_notifications(conn):
    async def listen() -> None:
        with pytest.raises(psycopg.OperationalError, match="closed"):
            await conn.read_notifies()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await wait_all_tasks_blocked()
        await conn.close()


async def test_closing_wakes_the_task_that_cannot_send(conn):
    conn.cancel_limit = 0.2
    with frozen(conn.info.backend_pid):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails, conn, "select length(%b)", HUGE)
            await wait_all_tasks_blocked(0.05)
            await conn.close()


@pytest.mark.parametrize("closed_after", [0, 1])
async def test_a_number_that_may_be_of_another_connection_is_not_waited_for(closed_after):
    """A connection closed by another task leaves its descriptor's number to the next one."""
    ours, theirs = socket.socketpair()
    answers = [True] * closed_after + [False] * 3
    with ours, theirs:
        ours.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                ours.send(HUGE)  # until it can be neither read nor written
        with trio.fail_after(5), pytest.raises(trio.ClosedResourceError):
            await until_ready(ours.fileno(), READ | WRITE, lambda: answers.pop(0))


async def test_a_task_that_cannot_send_can_be_cancelled(conn):
    conn.cancel_limit = 0.2
    with frozen(conn.info.backend_pid):
        started = trio.current_time()
        with trio.move_on_after(0.1) as scope:
            await conn.execute("select length(%b)", [HUGE])
        assert scope.cancelled_caught
        assert trio.current_time() - started < 0.3 + SLACK
    assert conn.closed


async def test_a_query_on_a_frozen_backend_can_be_cancelled(conn):
    with frozen(conn.info.backend_pid):
        started = trio.current_time()
        with trio.move_on_after(0.1) as scope:
            await conn.execute("select 1")
        assert scope.cancelled_caught
        assert trio.current_time() - started < 0.1 + 0.3 + SLACK
    assert conn.closed


async def test_with_the_whole_server_frozen_cancelling_takes_no_longer_than_the_grace(own):
    async with await Connection.connect(own.dsn) as conn:
        conn.cancel_limit = 0.3
        with frozen(own.pid, conn.info.backend_pid):
            started = trio.current_time()
            with trio.move_on_after(0.1):
                await conn.execute("select 1")
            assert 0.4 <= trio.current_time() - started < 0.4 + SLACK
        assert conn.closed


async def test_a_task_that_waits_for_the_connection_can_be_cancelled(conn):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conn.execute, "select pg_sleep(0.1)")
        await wait_all_tasks_blocked()
        with trio.move_on_after(0.01) as scope:
            await conn.execute("select 1")
        assert scope.cancelled_caught
    assert await (await conn.execute("select 2")).fetchone() == (2,)
