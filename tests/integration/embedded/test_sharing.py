"""The processes that use one embedded server come, go and die in any order."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest
import trio

from pgflow_events.embedded.server import EmbeddedServer
from pgflow_events.errors import EmbeddedError
from pgflow_events.postgres.connection import Connection

from ...parts.servers.embedding import await_end, needs_linux, owner_of, query, server_pid
from ...parts.servers.postmasters import keeper_of

pytestmark = needs_linux  # it is /proc that tells of them


async def answer(dsn: str) -> object:
    """What the server says on a new connection of ours."""
    async with await Connection.connect(dsn) as connection:
        cursor = await connection.execute("select 1")
        ((one,),) = await cursor.fetchall()
        return one


@pytest.mark.parametrize("way", ["it leaves", "SIGKILL", "SIGTERM"])
def test_when_the_first_user_ends_the_others_keep_their_connections(made, way):
    with owner_of(made) as first:
        pid = server_pid(first)
        with EmbeddedServer(made) as server, psycopg.connect(server.dsn) as connection:
            backend = connection.info.backend_pid
            if way == "it leaves":
                first.stdin.close()
            else:
                first.send_signal(signal.Signals[way])
            first.wait(30)
            assert connection.execute("select pg_backend_pid()").fetchone() == (backend,)
            assert query(server, "select 1") == 1
            keeper = keeper_of(pid)
        await_end(pid)
        await_end(keeper)


def test_the_last_user_takes_the_server_along_whoever_it_is(made):
    with owner_of(made) as first, owner_of(made) as second:
        found = [process.stdout.readline().split() for process in (first, second)]
        assert sorted(attached for _, attached in found) == ["False", "True"]
        assert found[0][0] == found[1][0]
        pid = int(found[0][0])
        keeper = keeper_of(pid)
        for process in (first, second):
            process.kill()
        await_end(pid)
        await_end(keeper)


def test_two_contexts_of_one_process_are_two_users(made):
    first, second = EmbeddedServer(made), EmbeddedServer(made)
    first.start()
    second.start()
    first.stop()
    assert query(second, "select 1") == 1
    second.stop()
    await_end(first.pid)


def test_to_start_and_to_stop_twice_is_the_same_as_once(made):
    server = EmbeddedServer(made)
    server.start()
    server.start()
    server.stop()
    await_end(server.pid)
    server.stop()


@pytest.mark.parametrize("victim", ["keeper", "postmaster", "both"])
async def test_a_server_that_was_ended_is_started_again_by_the_next_connection(
    made, victim, caplog
):
    with EmbeddedServer(made) as server:
        dsn, pid = server.dsn, server.pid
        keeper = keeper_of(pid)
        for name, number in (("keeper", keeper), ("postmaster", pid)):
            if victim in (name, "both"):
                os.kill(number, signal.SIGKILL)
        await_end(pid)
        await_end(keeper)
        with caplog.at_level(logging.WARNING, "pgflow_events.embedded"):
            assert await answer(dsn) == 1
        assert server.pid != pid
        assert [record.message for record in caplog.records] == [
            f"the embedded PostgreSQL in {made} has ended: starting it"
        ]
        assert server.start_again()
        assert "FATAL" not in (made / "server.log").read_text()
    await_end(server.pid)


async def test_a_server_that_is_being_stopped_is_waited_for_and_started_again(made):
    with EmbeddedServer(made) as server, psycopg.connect(server.dsn) as lingering:
        os.kill(server.pid, signal.SIGTERM)  # smart: it waits for its sessions to end
        pid = server.pid
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer, server.dsn)
                await trio.to_thread.run_sync(refused, server.dsn)
                lingering.close()
        assert server.pid != pid


def refused(dsn: str) -> None:
    """Return when the server lets nobody in any more."""
    while psycopg.pq.PGconn.ping(dsn.encode()) == psycopg.pq.Ping.OK:
        pass


async def test_many_connections_at_once_start_one_server(made):
    with EmbeddedServer(made) as server, EmbeddedServer(made) as other:
        os.kill(server.pid, signal.SIGKILL)
        await_end(server.pid)
        async with trio.open_nursery() as nursery:
            for dsn in [server.dsn, other.dsn] * 5:
                nursery.start_soon(answer, dsn)
        assert query(server, "select 1") == 1


async def test_while_one_context_is_left_the_server_is_started_again(made):
    with EmbeddedServer(made) as server:
        with EmbeddedServer(made) as other:
            pass
        os.kill(server.pid, signal.SIGKILL)
        await_end(server.pid)
        assert await answer(other.dsn) == 1


async def test_after_the_context_nothing_is_started_again(made):
    with EmbeddedServer(made) as server:
        dsn = server.dsn
    with pytest.raises(psycopg.OperationalError):
        await answer(dsn)


async def test_what_cannot_be_started_again_is_an_error_of_the_connection(made):
    with EmbeddedServer(made, timeout=2) as server:
        keeper = keeper_of(server.pid)
        os.kill(server.pid, signal.SIGKILL)
        await_end(keeper)
        mark = made / "data/global/pg_control"
        hidden = mark.rename(made / "hidden")
        with pytest.raises(psycopg.OperationalError, match="PostgreSQL did not start"):
            await answer(server.dsn)
        hidden.rename(mark)
        assert await answer(server.dsn) == 1


async def test_a_connection_that_is_given_up_leaves_the_start_to_end_by_itself(made):
    with EmbeddedServer(made) as server:
        os.kill(server.pid, signal.SIGKILL)
        await_end(server.pid)
        with trio.CancelScope() as scope:
            scope.cancel()
            await answer(server.dsn)
        assert await answer(server.dsn) == 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_that_leaves_takes_nothing_along(made):
    with EmbeddedServer(made) as server:
        child = multiprocessing.get_context("fork").Process(
            target=EmbeddedServer.__exit__, args=[server]
        )
        child.start()
        child.join(30)
        assert child.exitcode == 0
        assert query(server, "select 1") == 1


FORK_AND_END = """
import os, sys
from pathlib import Path
from pgflow_events.embedded.server import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]))
server.start()
if os.fork():
    print(server.pid, flush=True)
    os._exit(0)
sys.stdin.read()
"""


def test_a_forked_child_that_outlives_its_parent_does_not_keep_the_server(made):
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", FORK_AND_END, str(made)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as parent:
        await_end(int(parent.stdout.readline()))
        parent.stdin.close()


def test_a_program_that_was_started_meanwhile_does_not_keep_the_server(made):
    with EmbeddedServer(made) as server:
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    await_end(server.pid)
    child.kill()
    child.wait()


def test_threads_may_come_and_go_at_once(made):
    servers = [EmbeddedServer(made) for _ in range(6)]
    for method in (EmbeddedServer.start, EmbeddedServer.stop):
        threads = [threading.Thread(target=method, args=[server]) for server in servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({server.pid for server in servers}) == 1
    await_end(servers[0].pid)


def test_the_end_of_the_session_of_the_terminal_is_not_for_the_server(made):
    with EmbeddedServer(made) as server:
        keeper = keeper_of(server.pid)
        sessions = {os.getsid(server.pid), os.getsid(keeper), os.getsid(0)}
        assert len(sessions) == 3
        assert Path(f"/proc/{keeper}/stat").read_text().split()[3] != str(os.getpid())


def test_a_keeper_that_is_told_to_end_stops_the_server_cleanly(made):
    with EmbeddedServer(made) as server:
        os.kill(keeper_of(server.pid), signal.SIGTERM)
        await_end(server.pid)
        assert "database system is shut down" in (made / "server.log").read_text()


def test_settings_of_the_second_are_not_used(made):
    with EmbeddedServer(made), EmbeddedServer(made, settings={"no_such": "1"}) as second:
        assert second.attached
    with pytest.raises(EmbeddedError, match="no_such"):
        EmbeddedServer(made, settings={"no_such": "1"}).start()
