"""A primary that crashes, and a standby that is promoted by hand."""

import json

import psycopg
import pytest
import trio
from click.testing import CliRunner
from psycopg.conninfo import make_conninfo

from pgflow_events import Flow, Worker, connect
from pgflow_events.cli import commands
from pgflow_events.schema.migrations import migrate_now

from ...parts.load import Load
from ...parts.observing import execute, rows
from ...parts.servers.own_server import OwnServer, own_folder, own_server, running, until
from ..parts.soundness import assert_sound

RUNS = 400
DEFINE = "select pgflow.create_flow('flow'), pgflow.add_step('flow', 'step')"
COMPLETE = """
select pgflow.complete_task('{}', 'step', 0, '"done"') from pgflow.poll_for_tasks('flow', 1, 1)
"""
# The locks of those who wait for a run, which each session of the server may hold.
WAITING = """
select from pg_locks where locktype = 'advisory' and mode = 'ShareLock'
and (classid::bigint << 32 | objid::bigint) = pgflow.waiting_key('flow')
"""
REPLAYED = "select pg_last_wal_replay_lsn() >= %s::pg_lsn"


@pytest.fixture
def primary():
    """A server that sends its log to a standby; nobody waits for that one."""
    with own_server(settings={"wal_level": "replica"}) as server:
        with psycopg.connect(server.dsn, autocommit=True) as admin:
            admin.execute("create database flows encoding 'UTF8' template template0")
        migrate_now(make_conninfo(server.dsn, dbname="flows"))
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


def test_commands_say_that_a_standby_takes_no_writes(primary, standby):
    there, here = (make_conninfo(server.dsn, dbname="flows") for server in (primary, standby))
    trio.run(execute, there, DEFINE)
    trio.run(replayed, there, here)
    for command in (["migrate"], ["start", "flow"], ["prune", "--older-than", "1d"]):
        refused = CliRunner().invoke(commands, [*command, "--dsn", here])
        assert refused.exit_code == 1
        assert "is a standby, or was made read-only; give the DSN of the primary" in refused.output
    asked = CliRunner().invoke(commands, ["doctor", "--json", "--dsn", here])
    assert asked.exit_code == 0
    found = {check["check"]: check for check in json.loads(asked.stdout)["checks"]}
    assert found["server"]["status"] == "warning"
    assert "the server is a standby" in found["server"]["found"]
    assert found["notifications"]["found"].startswith("a standby delivers none")


async def completed(dsn: str) -> set[tuple[object, ...]]:
    """The tasks that are completed, with their outputs."""
    found = await rows(
        dsn,
        "select run_id, step_slug, attempts_count, output_blob_id from pgflow.step_tasks"
        " where status = 'completed'",
    )
    return set(found)


async def test_runs_are_awaited_on_a_standby_and_by_notifications_once_it_is_promoted(
    primary, standby, nursery
):
    there, here = (make_conninfo(server.dsn, dbname="flows") for server in (primary, standby))
    await execute(there, DEFINE)
    step = Flow("flow").step(slug="step")(str)
    async with connect(there) as starting, connect(here) as client:
        runs = [await starting.start("flow", None) for _ in range(4)]
        await execute(there, COMPLETE.format(runs[0].id))
        await replayed(there, here)
        with trio.fail_after(10):
            ended = await client.find(runs[0].id)
            assert await ended.result() == {"step": "done"}
            assert await ended.output(step) == "done"

        awaited = [await client.find(run.id) for run in runs]
        async with trio.open_nursery() as waiters:
            waiters.start_soon(awaited[1].wait)
            waiters.start_soon(awaited[2].wait)
            await execute(there, COMPLETE.format(runs[1].id))
            with trio.fail_after(10):
                await awaited[1].wait()
            await replayed(there, here)
            await rows(here, "select pg_promote()")

            async def listens() -> bool:
                return bool(await rows(here, WAITING))

            await until(listens, within=10)
            with trio.fail_after(0.9):  # sooner than it would look again
                await execute(here, COMPLETE.format(runs[2].id))
                await awaited[2].wait()
