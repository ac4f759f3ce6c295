"""A worker that is told to leave while its database is locked, slow, silent or away.

What is locked for less time than a worker may take to leave costs nothing. What is not there at all
cannot take a task back: the exit code says so, and a peer frees it as that of a worker that died.
"""

import socket
from contextlib import asynccontextmanager

import pytest
import trio
from psycopg.conninfo import make_conninfo

from pgflow_events import RunFailed, Worker
from pgflow_events.postgres.connection import Connection

from ...parts.liveness_scenes import whole
from ...parts.observing import rows, until
from ...parts.servers.proxy import Proxy
from ..parts.leaver import TWICE, leaver
from ..parts.leaving_flows import FLOWS
from ..parts.victim import ONLY_WHEN_TOLD
from .test_leaving import SEATS, assert_gone, define

__all__ = ["leaver"]

TABLES = ["pgflow.runs", "pgflow.step_tasks", "pgmq.q_page", "pgflow.output_blobs"]
WAITING = """
select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
and query like '%%pgflow.' || %s || '%%'
"""
slow = pytest.mark.slow_fault
some_tables = pytest.mark.parametrize(
    "table", [TABLES[0], *(pytest.param(table, marks=slow) for table in TABLES[1:])]
)


@asynccontextmanager
async def locked(database: str, table: str):
    """Have somebody lock a table within the block."""
    async with await Connection.connect(database) as other, other.transaction():
        await other.execute(f"lock table {table} in access exclusive mode".encode())
        yield


async def waits(database: str, function: str) -> None:
    """Return when a call waits for a lock."""
    await until(lambda: rows(database, WAITING, function))


async def assert_lost(run, told, code: int) -> None:
    """It could not give its task back, and said so; a peer has found it dead."""
    assert code == 1, told.log
    assert "Traceback" not in told.log
    assert "1 of 1 tasks could not be given back" in told.log
    assert told.said[-1] == "closed"
    with trio.fail_after(10), pytest.raises(RunFailed, match="attempt 1 was lost"):
        await run.result()


@pytest.fixture
async def peer(database, nursery):
    """Starts a worker that only the news of a death can wake, and returns when it is watching."""

    async def start() -> None:
        await nursery.start(Worker(FLOWS, database, settings=ONLY_WHEN_TOLD).run)
        await whole(database)

    return start


@some_tables
async def test_a_table_that_is_locked_while_it_gives_back_is_waited_for(
    client, database, leaver, *, table
):
    await define(database)
    run = await client.start("page", None)
    told = leaver(database, "page")
    await told.until("holding")
    async with locked(database, table):
        await told.tell(*TWICE)
        await waits(database, "release_tasks")
    assert await told.end() == 0, told.log
    assert "done: 1 given back" in told.log
    await assert_gone(database, run, told)


@some_tables
async def test_outcomes_whose_commit_is_cut_off_are_given_back(client, database, leaver, *, table):
    await define(database)
    run = await client.start("page", None)
    told = leaver(database, "page")
    await told.until("holding")
    async with locked(database, table):
        told.go_on()
        await waits(database, "complete_tasks" if table != "pgflow.output_blobs" else "")
        await told.tell(*TWICE)
        await waits(database, "release_tasks")
    assert await told.end() == 0, told.log
    assert "1 outcomes were not committed in time" in told.log
    assert "done: 1 given back" in told.log
    await assert_gone(database, run, told)


@slow
async def test_handlers_that_are_given_up_while_the_last_commit_waits_are_given_back(
    client, database, leaver
):
    await define(database)
    told = leaver(database, "brief", "--slots", "2", last_commit=3)
    async with locked(database, "pgmq.a_page"):
        run = await client.start("page", None)
        late = await client.start("brief", None)
        await told.until("holding")
        await waits(database, "complete_tasks")
        await told.tell(*TWICE)
        assert await told.end() == 0, told.log
    assert "done: 2 given back" in told.log
    await assert_gone(database, run, told)
    assert await late.result() == {"hurry": "done"}


@slow
@some_tables
async def test_a_table_that_stays_locked_does_not_keep_it(client, database, leaver, peer, *, table):
    await define(database)
    run = await client.start("page", None)
    told = leaver(database, "page")
    await told.until("holding")
    await peer()
    async with locked(database, table):
        await told.tell(*TWICE)
        code = await told.end()
    await assert_lost(run, told, code)


async def test_a_worker_whose_seat_is_locked_gives_back_and_is_buried(
    client, database, leaver, peer
):
    await define(database)
    run = await client.start("page", None)
    told = leaver(database, "page")
    await told.until("holding")
    await peer()
    async with locked(database, "pgflow.worker_seats"):
        await told.tell(*TWICE)
        assert await told.end() == 0, told.log
    assert "could not tell the other workers that this one leaves" in told.log
    await run.result()
    await whole(database)
    assert len(await rows(database, SEATS)) == 1


async def test_over_a_slow_way_it_gives_back_all_the_same(client, database, leaver, nursery):
    await define(database)
    run = await client.start("page", None)
    way = Proxy(database)
    await nursery.start(way.run)
    told = leaver(way.dsn, "page")
    await told.until("holding")
    way.delay = 0.2
    await told.tell(*TWICE)
    assert await told.end() == 0, told.log
    await assert_gone(database, run, told)


class Away(Proxy):
    """A way that can be closed altogether."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self._scope = trio.CancelScope()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        with self._scope:
            await super().run(task_status=task_status)

    def close(self) -> None:
        """Cut all sessions, and let nobody in any more."""
        self._scope.cancel()

    def fall_silent(self) -> None:
        """Swallow whatever is said, and tell nobody."""
        self.silent = True


@pytest.mark.parametrize(
    "fault", [Away.close, pytest.param(Away.fall_silent, marks=slow)], ids=["away", "silent"]
)
@pytest.mark.parametrize("hold", ["page", ""], ids=["at work", "idle"])
async def test_where_the_database_is_gone_it_leaves_all_the_same(
    client, database, leaver, peer, nursery, *, fault, hold
):
    await define(database)
    way = Away(database)
    await nursery.start(way.run)
    told = leaver(way.dsn, hold)
    await told.until("ready")
    run = await client.start("page", None) if hold else None
    if hold:
        await told.until("holding")
    await peer()
    fault(way)
    await told.tell(*TWICE)
    code = await told.end()
    way.close()
    if run:
        await assert_lost(run, told, code)
    else:
        assert code == 0, told.log
        assert "Traceback" not in told.log
    await whole(database)
    assert len(await rows(database, SEATS)) == 1


@pytest.mark.parametrize("is_silent", [False, True], ids=["away", "silent"])
async def test_told_before_the_database_has_ever_answered_it_ends_at_once(leaver, is_silent):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        if is_silent:
            nobody.listen()
        dsn = make_conninfo("", host="127.0.0.1", port=nobody.getsockname()[1], dbname="x")
        told = leaver(dsn)
        await told.until("" if is_silent else "the database does not answer")
        await told.until("open")
        await told.tell("SIGTERM")
        assert await told.end() == 0, told.log
    assert told.said == ["open", "closed"]
    assert "Traceback" not in told.log
