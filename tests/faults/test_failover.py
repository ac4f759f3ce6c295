"""A primary that crashes, and a standby that is promoted by hand."""

import psycopg
import pytest
import trio
from psycopg.conninfo import make_conninfo

from pgflow_events import Worker, connect
from pgflow_events.migrations import migrate_now

from ..integration.load import Load
from ..integration.observing import rows
from ..integration.own_server import OwnServer, own_folder, own_server, running, until
from .soundness import assert_sound

RUNS = 400
REPLAYED = "select pg_last_wal_replay_lsn() >= %s::pg_lsn"


@pytest.fixture
def primary():
    """A server that sends its log to a standby; nobody waits for that one."""
    with own_server(settings={"wal_level": "replica"}) as server:
        with psycopg.connect(server.conninfo, autocommit=True) as admin:
            admin.execute("create database flows encoding 'UTF8' template template0")
        migrate_now(make_conninfo(server.conninfo, dbname="flows"))
        yield server


@pytest.fixture
def standby(primary):
    with own_folder() as folder:
        server = OwnServer(folder)
        server.follow(primary)
        with running(server):
            yield server


async def replayed(primary: str, standby: str) -> None:
    """Return when the standby has all that was committed so far."""
    ((written,),) = await rows(primary, "select pg_current_wal_insert_lsn()::text")

    async def has_it() -> bool:
        return await rows(standby, REPLAYED, written) == [(True,)]

    await until(has_it, within=20)


async def test_workers_and_clients_go_on_where_the_standby_stood(primary, standby, nursery):
    dsn = (
        f"host=127.0.0.1,127.0.0.1 port={primary.port},{standby.port} user=postgres dbname=flows"
        " target_session_attrs=read-write sslmode=disable gssencmode=disable"
    )
    there, here = (make_conninfo(server.tcp, dbname="flows") for server in (primary, standby))
    load = Load("flow", RUNS)
    for _ in range(2):
        await nursery.start(Worker([load.flow], dsn, hooks=()).run)

    async def fail_over() -> None:
        await load.reach(100)
        before = await completed(there)
        await replayed(there, here)
        await trio.to_thread.run_sync(primary.stop, "immediate")
        assert load.attempts.total() < 3 * RUNS
        await rows(here, "select pg_promote()")
        assert before <= await completed(here)

    async with connect(dsn) as client:
        await load.complete(client, here, fail_over)
    assert load.attempts.total() >= 3 * RUNS
    await assert_sound(here)


async def completed(dsn: str) -> set[tuple[object, ...]]:
    """The tasks that are completed, with their outputs."""
    found = await rows(
        dsn,
        "select run_id, step_slug, attempts_count, output_blob_id from pgflow.step_tasks"
        " where status = 'completed'",
    )
    return set(found)
