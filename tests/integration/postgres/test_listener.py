"""The connection that listens: it hears, and when it is lost it is made anew."""

import logging
import math
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import psycopg
import pytest
import trio
from psycopg.conninfo import make_conninfo
from trio.testing import wait_all_tasks_blocked

from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.listener import Listener
from pgflow_events.postgres.pool import Pool
from pgflow_events.postgres.refusals import REFUSAL

from ...parts.servers.own_server import OwnServer, own_server, terminate_backends, until
from ...parts.servers.proxy import Proxy

CHANNEL = 'Work "1"'


class Ear:
    """A listener whose calls can be awaited, one by one."""

    def __init__(self, dsn: str, **kwargs: Any) -> None:
        self.dsn = dsn
        send, self._receive = trio.open_memory_channel[str](math.inf)
        self.listener = Listener(
            dsn, [CHANNEL], send.send_nowait, partial(send.send_nowait, "on_connect"), **kwargs
        )

    async def next(self) -> str:
        with trio.fail_after(20):
            return await self._receive.receive()

    def silent(self) -> bool:
        return self._receive.statistics().current_buffer_used == 0

    async def start(self, nursery: trio.Nursery) -> None:
        await nursery.start(self.listener.run)
        assert await self.next() == "on_connect"


async def notify(dsn: str, channel: str) -> None:
    async with await Connection.connect(dsn) as conn:
        await conn.execute("select pg_notify(%s, '')", [channel])


@pytest.fixture
async def ear(empty_database, nursery):
    ear = Ear(empty_database)
    await ear.start(nursery)
    return ear


@pytest.fixture(scope="module")
def own() -> Iterator[OwnServer]:
    with own_server() as server:
        yield server


async def test_a_notification_is_heard_with_its_channel(ear):
    await notify(ear.dsn, CHANNEL)
    assert await ear.next() == CHANNEL


async def test_it_listens_already_when_it_says_it_is_connected(empty_database, nursery):
    heard = trio.Event()

    def notify_now() -> None:
        with psycopg.connect(empty_database, autocommit=True) as conn:
            conn.execute("select pg_notify(%s, '')", [CHANNEL])

    listener = Listener(empty_database, [CHANNEL], lambda _: heard.set(), notify_now)
    await nursery.start(listener.run)
    with trio.fail_after(5):
        await heard.wait()


async def test_while_nothing_happens_there_is_neither_a_query_nor_a_timer(ear):
    await wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().seconds_to_next_deadline == math.inf
    async with await Connection.connect(ear.dsn) as conn:
        query = """
            select query like '%LISTEN%' from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid()
            and backend_type = 'client backend'
        """
        assert await (await conn.execute(query)).fetchall() == [(True,)]


async def test_a_terminated_backend_is_replaced_and_listens(ear):
    await terminate_backends(ear.dsn)
    assert await ear.next() == "on_connect"
    await notify(ear.dsn, CHANNEL)
    assert await ear.next() == CHANNEL


async def test_a_session_that_ends_again_and_again_is_replaced_as_soon_each_time(ear, caplog):
    for _ in range(6):
        await terminate_backends(ear.dsn)
        assert await ear.next() == "on_connect"
    pauses = re.findall(r"listening again in (\S+) s", caplog.text)
    assert len(pauses) == 6
    assert max(map(float, pauses)) <= 0.2


async def test_something_may_be_done_with_the_session_before_it_counts_as_connected(
    empty_database, nursery
):
    async def take_lock(conn: Connection) -> None:
        await conn.execute("select pg_advisory_lock(1)")

    ear = Ear(empty_database, on_listen=take_lock)
    await ear.start(nursery)
    async with await Connection.connect(empty_database) as conn:
        cursor = await conn.execute("select pg_try_advisory_lock(1)")
        assert await cursor.fetchone() == (False,)


async def test_a_server_that_ends_idle_sessions_does_not_end_this_one(empty_database):
    listener = Listener(empty_database, [], print, print)
    options = "-c idle_session_timeout=1h"
    async with await Connection.connect(empty_database, options=options) as conn:
        await conn.execute(listener._statement)
        assert await (await conn.execute("show idle_session_timeout")).fetchone() == ("0",)


async def test_a_name_that_listen_would_cut_is_refused():
    with pytest.raises(ValueError, match="longer than 63 bytes"):
        Listener("", ["é" * 32], print, print)


async def test_a_check_of_a_healthy_link_is_true_and_unheard_by_others(ear):
    assert await ear.listener.check(partial(notify, ear.dsn))
    assert await ear.listener.check(partial(notify, ear.dsn))
    assert ear.silent()


async def test_two_checks_at_once_do_not_disturb_each_other(ear):
    async def check() -> None:
        assert await ear.listener.check(partial(notify, ear.dsn))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(check)
        nursery.start_soon(check)


async def test_a_check_without_a_connection_is_false(empty_database):
    assert not await Listener(empty_database, [], print, print).check(print)


async def test_an_error_while_notifying_is_no_fault_of_the_listener(ear):
    async def fail(_: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await ear.listener.check(fail)
    await notify(ear.dsn, CHANNEL)
    assert await ear.next() == CHANNEL


async def test_a_link_that_swallows_everything_is_noticed_by_a_check_and_replaced(
    empty_database, nursery
):
    proxy = Proxy(empty_database)
    await nursery.start(proxy.run)
    ear = Ear(proxy.dsn)
    await ear.start(nursery)
    assert await ear.listener.check(partial(notify, empty_database))
    proxy.silent = True
    assert not await ear.listener.check(partial(notify, empty_database), limit=0.1)
    proxy.silent = False
    assert await ear.next() == "on_connect"
    assert await ear.listener.check(partial(notify, empty_database))


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_restart_of_the_server_is_survived(own, mode):
    ear = Ear(own.tcp)
    failures = []
    send, answers = trio.open_memory_channel[None](math.inf)

    async def query() -> None:
        while True:
            try:
                async with pool.connection() as conn:
                    await conn.execute("select pg_sleep(0.001)")
                send.send_nowait(None)
            except psycopg.OperationalError as error:
                failures.append(error)
                await trio.sleep(0.02)

    async def queries_go_on() -> None:
        with trio.fail_after(20):
            for _ in range(answers.statistics().current_buffer_used + 20):
                await answers.receive()

    async with Pool(own.tcp, max_size=4) as pool, trio.open_nursery() as nursery:
        await ear.start(nursery)
        for _ in range(8):
            nursery.start_soon(query)
        await queries_go_on()
        await trio.to_thread.run_sync(own.restart, mode)
        await queries_go_on()
        assert await ear.next() == "on_connect"
        await notify(own.tcp, CHANNEL)
        assert await ear.next() == CHANNEL
        nursery.cancel_scope.cancel()
    assert failures


async def test_it_waits_for_a_server_that_is_not_there_yet_and_logs_few_lines(own, caplog):
    caplog.set_level(logging.WARNING, "pgflow_events.listener")
    ear = Ear(own.dsn)

    async def four_lines() -> bool:
        return len(caplog.messages) == 4

    async def start_server() -> None:
        began = trio.current_time()
        await until(four_lines)
        assert trio.current_time() - began > (0.1 + 0.2 + 0.4) / 2  # the shortest delays
        assert not any("\n" in message for message in caplog.messages)
        assert ear.silent()
        await trio.to_thread.run_sync(own.start)

    own.stop()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(start_server)
        await ear.start(nursery)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "params",
    [
        {"dbname": "nowhere"},
        {"user": "nobody_at_all"},
        {"user": "guarded", "password": "wrong"},
        {"user": "guarded", "passfile": "/dev/null"},
    ],
)
async def test_a_refusal_that_will_not_pass_ends_the_start(own, params):
    listener = Listener(make_conninfo(own.tcp, **params), [], print, print)
    with pytest.raises(psycopg.OperationalError):
        await listener.run()


@pytest.mark.parametrize(
    "message",
    [
        "FATAL:  the database system is starting up",
        "FATAL:  sorry, too many clients already",
        'FATAL:  database "x" is not currently accepting connections',
        "Connection refused\n\tIs the server running on that host and accepting connections?",
    ],
)
def test_a_failure_that_may_pass_is_no_refusal(message):
    assert not REFUSAL.search(message)
