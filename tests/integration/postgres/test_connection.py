"""psycopg on trio: what works when nothing goes wrong.

`tests/psycopg_matrix.sh` runs this file with each release and implementation of psycopg.
"""

import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import psycopg
import pytest
import trio
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, dict_row

from pgflow_events.postgres import connection
from pgflow_events.postgres.connection import Connection

from ...parts.servers.proxy import Proxy

BIG = 3_000_000


@pytest.fixture
async def conn(empty_database):
    async with await Connection.connect(empty_database) as conn:
        await conn.execute("create table public.item (id int primary key)")
        yield conn


async def value(conn: Connection[Any], query: str) -> Any:
    (found,) = await (await conn.execute(query)).fetchone()
    return found


async def insert(conn: Connection[Any], number: int) -> None:
    await conn.execute("insert into public.item values (%s)", [number])


async def ids(conn: Connection[Any]) -> list[int]:
    return [row[0] async for row in await conn.execute("select id from public.item order by id")]


async def test_a_query_returns_its_rows(conn):
    cursor = await conn.execute("select %s::int + 1, %s", [41, "text"])
    assert await cursor.fetchall() == [(42, "text")]


async def test_a_query_commits_at_once(conn, empty_database):
    await insert(conn, 1)
    async with await Connection.connect(empty_database) as other:
        assert await ids(other) == [1]


async def test_without_autocommit_leaving_the_block_commits(conn, empty_database):
    async with await Connection.connect(empty_database, autocommit=False) as other:
        await insert(other, 1)
        assert await ids(conn) == []
    assert await ids(conn) == [1]


async def test_without_autocommit_an_error_in_the_block_rolls_back(conn, empty_database):
    other = await Connection.connect(empty_database, autocommit=False)

    async def insert_and_fail() -> None:
        async with other:
            await insert(other, 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await insert_and_fail()
    assert other.closed
    assert await ids(conn) == []


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_text_is_sent_as_utf8_whatever_the_surroundings_say(
    empty_database, monkeypatch, encoding
):
    monkeypatch.setenv("PGCLIENTENCODING", encoding)
    async with await Connection.connect(empty_database) as conn:
        cursor = await conn.execute("select %s::text || chr(8364)", ["5 €, "])
        assert await cursor.fetchone() == ("5 €, €",)


@pytest.mark.parametrize("name", ["json", "jsonb"])
@pytest.mark.parametrize("binary", [False, True])
async def test_json_is_loaded_by_orjson(conn, name, binary):
    cursor = await conn.execute(f"""select '{{"a": [1, null]}}'::{name}""", binary=binary)
    assert await cursor.fetchone() == ({"a": [1, None]},)
    loader = conn.adapters.get_loader(conn.adapters.types[name].oid, psycopg.pq.Format(binary))
    assert loader(0, conn).loads is orjson.loads


async def test_a_row_factory_types_the_connection(empty_database):
    conn: Connection[DictRow]
    async with await Connection.connect(empty_database, row_factory=dict_row) as conn:
        cursor = await conn.execute("select 1 as one")
        assert await cursor.fetchone() == {"one": 1}


async def test_a_parameter_larger_than_the_buffers_arrives_whole(conn):
    sent = bytes(range(256)) * (BIG // 256)
    cursor = await conn.execute("select %b::bytea", [sent], binary=True)
    assert await cursor.fetchone() == (sent,)


async def test_a_statement_often_repeated_is_prepared(conn):
    for number in range(10):
        assert await value(conn, "select 1") == 1, number
    assert await value(conn, "select count(*) from pg_prepared_statements") == 1


async def test_a_transaction_commits(conn):
    async with conn.transaction() as transaction:
        await insert(conn, 1)
        assert transaction.connection is conn
    assert conn.info.transaction_status == TransactionStatus.IDLE
    assert await ids(conn) == [1]


async def test_a_transaction_is_rolled_back_by_an_error(conn):
    async def insert_twice() -> None:
        async with conn.transaction():
            await insert(conn, 1)
            await insert(conn, 1)

    with pytest.raises(psycopg.errors.UniqueViolation):
        await insert_twice()
    assert await ids(conn) == []


async def test_a_nested_transaction_is_rolled_back_alone(conn):
    async with conn.transaction():
        await insert(conn, 1)
        async with conn.transaction(force_rollback=True):
            await insert(conn, 2)
        async with conn.transaction() as inner:
            await insert(conn, 3)
            raise psycopg.Rollback(inner)
        async with conn.transaction("named"):
            await insert(conn, 4)
    assert await ids(conn) == [1, 4]


async def test_a_transaction_on_a_connection_closed_meanwhile_does_not_finish(conn):
    async def insert_and_close() -> None:
        async with conn.transaction():
            await insert(conn, 1)
            await conn.close()

    with pytest.raises(psycopg.OperationalError, match="closed before the commit"):
        await insert_and_close()


async def test_a_pipeline_runs_all_its_commands(conn):
    async with conn.pipeline(), conn.transaction():
        cursors = [
            await conn.execute("insert into public.item values (%s) returning id", [i])
            for i in range(500)
        ]
    assert [await cursor.fetchone() for cursor in cursors] == [(i,) for i in range(500)]


async def test_a_pipeline_may_be_several_transactions(conn):
    async def insert_and_fail():
        async with conn.pipeline():
            await conn.execute("insert into public.item values (1)")
            await conn.execute("insert into public.item values (2)")
            conn.end_transaction()
            await conn.execute("insert into public.item values (3)")
            await conn.execute("select 1 / 0")
            conn.end_transaction()
            await conn.execute("insert into public.item values (4)")

    with pytest.raises(psycopg.errors.DivisionByZero):
        await insert_and_fail()
    found = await (await conn.execute("select id, xmin from public.item order by id")).fetchall()
    assert [number for number, _ in found] == [1, 2, 4]
    assert len({xid for _, xid in found}) == 2


async def test_a_commit_that_fails_in_a_pipeline_says_why(conn):
    await conn.execute(
        "create table public.part (of int references public.item deferrable initially deferred)"
    )

    async def insert_part():
        async with conn.pipeline():
            await conn.execute("insert into public.part values (1)")
            conn.end_transaction()
            await conn.execute("insert into public.item values (2) on conflict do nothing")

    for _ in range(20):  # its answer and the reason come together or one after the other
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            await insert_part()
    assert await ids(conn) == [2]


async def test_there_is_no_transaction_to_end_without_a_pipeline(conn):
    with pytest.raises(psycopg.ProgrammingError, match="no pipeline"):
        conn.end_transaction()


async def test_executemany_inserts_each_row(conn):
    async with conn.cursor() as cursor:
        await cursor.executemany("insert into public.item values (%s)", [(i,) for i in range(1000)])
    assert await value(conn, "select count(*) from public.item") == 1000


async def test_what_is_copied_in_comes_out_again(conn):
    async with conn.cursor() as cursor:
        async with cursor.copy("copy public.item from stdin") as copy:
            for i in range(2000):
                await copy.write_row([i])
        async with cursor.copy("copy (select * from public.item order by 1) to stdout") as copy:
            copy.set_types(["int4"])
            assert [row async for row in copy.rows()] == [(i,) for i in range(2000)]


async def test_a_copy_error_of_the_caller_leaves_the_connection_usable(conn):
    async def copy_and_fail() -> None:
        async with conn.cursor() as cursor, cursor.copy("copy public.item from stdin") as copy:
            await copy.write_row([1])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await copy_and_fail()
    assert await ids(conn) == []


async def test_a_server_cursor_scrolls(conn):
    async with conn.transaction(), conn.cursor("walk", scrollable=True) as cursor:
        await cursor.execute("select generate_series(1, 100)")
        await cursor.scroll(50)
        assert await cursor.fetchone() == (51,)


async def test_a_stream_yields_row_by_row(conn):
    async with conn.cursor() as cursor:
        rows = [row async for row in cursor.stream("select generate_series(1, 500)")]
    assert rows == [(i,) for i in range(1, 501)]


async def test_a_copy_lets_other_tasks_run_once_it_has_been_busy(conn, monkeypatch):
    monkeypatch.setattr(connection, "BUSY_LIMIT", 0.0)
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery, conn.cursor() as cursor:
        nursery.start_soon(take_turns)
        async with cursor.copy("copy public.item from stdin") as copy:
            before = turns
            for i in range(50):  # too few to be sent yet
                await copy.write(f"{i}\n")
            assert turns - before >= 49
        nursery.cancel_scope.cancel()


async def test_notifications_reach_the_handler(conn, empty_database):
    heard = []
    conn.add_notify_handler(heard.append)
    await conn.execute("listen here")
    async with await Connection.connect(empty_database) as other, trio.open_nursery() as nursery:
        nursery.start_soon(conn.read_notifies)
        await other.execute("notify here, 'hello'")
    assert [(notify.channel, notify.payload) for notify in heard] == [("here", "hello")]


async def test_notifications_that_come_with_an_answer_reach_the_handler(conn):
    heard = []
    conn.add_notify_handler(lambda notify: heard.append(notify.payload))
    await conn.execute("listen here")
    await conn.execute("notify here, 'hello'")
    await value(conn, "select 1")
    assert heard == ["hello"]


async def test_waiting_for_notifications_can_be_cancelled(conn):
    await conn.execute("listen here")
    with trio.move_on_after(0.01):
        await conn.read_notifies()
    assert await value(conn, "select 1") == 1


async def test_notifies_is_refused(conn):
    with pytest.raises(psycopg.NotSupportedError, match="read_notifies"):
        conn.notifies()


async def test_tasks_that_share_a_connection_wait_for_each_other(conn):
    found = []

    async def query(number: int) -> None:
        cursor = await conn.execute("select %s::int, pg_sleep(0.001)", [number])
        found.append((await cursor.fetchone())[0])

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(query, number)
    assert sorted(found) == list(range(20))


async def test_a_task_cannot_use_the_connection_within_its_own_copy(conn):
    async with conn.cursor() as cursor, cursor.copy("copy public.item from stdin") as copy:
        with pytest.raises(RuntimeError, match="already using the connection"):
            await conn.execute("select 1")
        await copy.write_row([1])
    assert await ids(conn) == [1]


async def test_a_closed_connection_says_so(conn):
    await conn.close()
    assert conn.closed
    assert not conn.broken
    with pytest.raises(psycopg.OperationalError, match="closed"):
        await conn.execute("select 1")


async def settings(dsn: str, *names: str, **kwargs: Any) -> list[str]:
    async with await Connection.connect(dsn, **kwargs) as conn:
        return [await value(conn, f"show {name}") for name in names]


async def test_a_connection_has_sensible_settings(empty_database):
    names = [
        "application_name",
        "client_connection_check_interval",
        "idle_in_transaction_session_timeout",
    ]
    assert await settings(empty_database, *names) == ["pgflow_events", "5s", "1min"]
    params = await Connection._get_connection_params(empty_database)
    assert (params["connect_timeout"], params["tcp_user_timeout"]) == (10, 20_000)


async def test_what_the_dsn_says_is_kept(empty_database):
    dsn = make_conninfo(
        empty_database,
        application_name="mine",
        connect_timeout=3,
        options="-c work_mem=8MB -c idle_in_transaction_session_timeout=7s",
    )
    names = ["application_name", "work_mem", "idle_in_transaction_session_timeout"]
    assert await settings(dsn, *names) == ["mine", "8MB", "7s"]
    assert (await Connection._get_connection_params(dsn))["connect_timeout"] == "3"


async def test_what_the_environment_says_is_kept(empty_database, monkeypatch):
    monkeypatch.setenv("PGAPPNAME", "mine")
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=8MB")
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "3")
    names = ["application_name", "work_mem", "client_connection_check_interval"]
    assert await settings(empty_database, *names) == ["mine", "8MB", "5s"]
    assert "connect_timeout" not in await Connection._get_connection_params(empty_database)


async def test_a_server_that_refuses_our_settings_is_used_without_them(empty_database):
    async with trio.open_nursery() as nursery:
        proxy = Proxy(empty_database, refuse=b"client_connection_check_interval")
        await nursery.start(proxy.run)
        assert await settings(proxy.dsn, "client_connection_check_interval") == ["0"]
        nursery.cancel_scope.cancel()


async def test_a_closed_port_is_an_operational_error():
    with pytest.raises(psycopg.OperationalError, match="Connection refused"):
        await Connection.connect(f"host=127.0.0.1 port={closed_port()}")


async def test_the_next_host_is_tried(empty_database, tmp_path):
    there = psycopg.conninfo.conninfo_to_dict(empty_database)
    hosts, ports = f"{tmp_path},{there['host']}", f"1,{there.get('port', 5432)}"
    async with await Connection.connect(empty_database, host=hosts, port=ports) as conn:
        assert await value(conn, "select 1") == 1


async def test_if_no_host_answers_the_error_tells_of_each():
    ports = [closed_port(), closed_port()]
    hosts = "127.0.0.1,127.0.0.1,nowhere.invalid"
    with pytest.raises(psycopg.OperationalError) as caught:
        await Connection.connect(f"host={hosts} port={ports[0]},{ports[1]},5432")
    assert all(f"port {port}" in str(caught.value) for port in ports)
    assert "'nowhere.invalid'" in str(caught.value)
    assert caught.value.pgconn


def silent_tcp(sock: socket.socket, _: Path) -> tuple[str, list[str]]:
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    return f"host=localhost hostaddr=127.0.0.1 port={port}", [
        f'at "localhost" (127.0.0.1), port {port} failed'
    ]


def silent_unix(sock: socket.socket, folder: Path) -> tuple[str, list[str]]:
    sock.bind(str(folder / ".s.PGSQL.7777"))
    return f"host={folder} port=7777", [str(folder), "port 7777"]


@pytest.mark.parametrize(
    ("family", "bind"), [(socket.AF_INET, silent_tcp), (socket.AF_UNIX, silent_unix)]
)
async def test_a_server_that_does_not_answer_is_given_up_by_name(
    mock_clock, family, bind, short_folder
):
    mock_clock.rate = 20  # connect_timeout is at least two seconds
    with socket.socket(family) as silent:
        dsn, parts = bind(silent, short_folder)
        silent.listen()
        with pytest.raises(psycopg.errors.ConnectionTimeout, match="timeout expired") as caught:
            await Connection.connect(f"{dsn} connect_timeout=2")
        assert all(part in str(caught.value) for part in parts)


async def test_of_hosts_that_do_not_answer_each_is_named(mock_clock):
    mock_clock.rate = 20
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports = [silent.getsockname()[1], closed_port()]
        with pytest.raises(psycopg.OperationalError) as caught:
            await Connection.connect(
                f"host=127.0.0.1,127.0.0.1 port={ports[0]},{ports[1]} connect_timeout=2"
            )
    assert f'"127.0.0.1", port {ports[0]} failed: connection timeout expired' in str(caught.value)
    assert f'"127.0.0.1", port {ports[1]} failed: Connection refused' in str(caught.value)


async def test_cancelling_without_a_limit_waits_for_the_server(conn):
    await conn.cancel_safe(timeout=0)
    assert await value(conn, "select 1") == 1


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """The path of a socket may have some hundred bytes."""
    with TemporaryDirectory(dir="/tmp", prefix="pg") as folder:
        yield Path(folder)


async def test_a_dsn_that_cannot_be_understood_is_a_programming_error():
    with pytest.raises(psycopg.ProgrammingError):
        await Connection.connect("nonsense")


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
