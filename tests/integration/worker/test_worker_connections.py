"""A database that is down, goes down, drops connections, or changes under the worker."""

import re

import pytest
import trio
from psycopg.conninfo import conninfo_to_dict

from pgflow_events import Flow, Settings, Worker, connect
from pgflow_events.worker.claiming import dispatcher

from ...parts.load import PAGE, Load
from ...parts.observing import execute, logged, rows, until

RELOAD = "select pg_reload_conf()"
TERMINATE = """
select count(pg_terminate_backend(pid)) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid()
"""
TERMINATE_WAITING = """
select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'
"""


async def test_a_database_that_is_down_at_the_start_is_waited_for(
    server_of_ours, dsn, nursery, caplog
):
    load = Load("down_at_the_start", 3)
    worker = Worker([load.flow], dsn)
    server_of_ours.stop()
    async with trio.open_nursery() as starting:
        starting.start_soon(nursery.start, worker.run)
        await logged(caplog, "the database does not answer")
        await trio.to_thread.run_sync(server_of_ours.start)
    async with connect(dsn) as client:
        await load.complete(client, dsn)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_restart_under_load_loses_nothing(server_of_ours, dsn, nursery, mode):
    load = Load(f"restart_{mode}", 100)
    await nursery.start(Worker([load.flow], dsn, hooks=()).run)

    async def restart():
        await load.reach(60)
        await trio.to_thread.run_sync(server_of_ours.restart, mode)
        assert load.attempts.total() < 300

    async with connect(dsn) as client:
        await load.complete(client, dsn, restart)


async def test_sessions_terminated_under_load_lose_nothing_and_run_no_attempt_twice(
    database, nursery
):
    load = Load("flow", 100)
    await nursery.start(Worker([load.flow], database, hooks=()).run)

    async def terminate():
        for attempts in range(30, 300, 60):
            await load.reach(attempts)
            await rows(database, TERMINATE)

    async with connect(database) as client:
        await load.complete(client, database, terminate)
    assert set(load.attempts.values()) == {1}


async def test_a_listener_whose_session_is_terminated_listens_again(client, work, database):
    load = Load("flow", 1)
    await work(load.flow, settings=Settings(check_interval=3600))
    await rows(database, TERMINATE + " and query like '%%take_seat%%'")
    with trio.fail_after(5):
        await load.complete(client, database)


async def test_stopped_while_the_database_is_down_it_ends(server_of_ours, dsn, caplog, monkeypatch):
    monkeypatch.setattr(dispatcher, "LAST_CLAIM", 0.1)
    worker = Worker([Load("stopped", 1).flow], dsn, settings=Settings(poll_interval=0.01))
    try:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                await nursery.start(worker.run)
                await trio.to_thread.run_sync(server_of_ours.stop)
                worker._dispatcher.wake()
                await logged(caplog, "the database does not answer")
                worker.stop()
    finally:
        server_of_ours.start()


async def test_a_commit_that_happened_though_its_answer_was_lost_counts_once(
    server_of_ours, dsn, nursery, caplog
):
    flow = Flow("lost_answer")
    running, go_on = trio.Event(), trio.Event()
    attempts = []

    async def handler(context):
        attempts.append((context.step, context.attempt))
        running.set()
        await go_on.wait()
        return PAGE if context.step == "large" else 1

    flow.step(flow.context, slug="large")(handler)
    flow.step(flow.context, slug="small")(handler)
    await nursery.start(Worker([flow], dsn).run)
    async with connect(dsn) as client:
        run = await client.start(flow, None)
        await running.wait()
        # From now on a commit waits, once it has happened, for a standby that there is not.
        await execute(dsn, "alter system set synchronous_standby_names = 'nobody'", RELOAD)
        go_on.set()
        await until(lambda: rows(dsn, TERMINATE_WAITING))
        await execute(dsn, "alter system reset synchronous_standby_names", RELOAD)
        assert await run.result() == {"large": PAGE, "small": 1}
    assert sorted(attempts) == [("large", 1), ("small", 1)]
    assert "too late" not in caplog.text
    # The two outcomes are committed together or one by one, as it happens.
    assert re.search("the database does not answer|trying one by one", caplog.text)
    assert len(await rows(dsn, "select from pgflow.output_blobs where run_id = %s", run.id)) == 1


async def test_a_migration_under_a_worker_and_a_client_heals_by_new_connections(
    work, database, caplog
):
    flow = Flow("flow")
    flow.step(slug="page")(lambda: PAGE)
    flow.step(flow.steps["page"], slug="length")(len)
    await work(flow, settings=Settings(connections=1, cache_budget=0))
    async with connect(database, connections=1) as client:

        async def run():
            assert await (await client.start(flow, None)).result() == {"length": len(PAGE)}

        for _ in range(6):  # then all statements are prepared
            await run()
        for change in (
            "pgflow.runs alter status type varchar(20)",
            "pgflow.step_tasks add column more text",
        ):
            caplog.clear()
            await execute(database, f"alter table {change}")
            await run()
            assert ("cached plan" in caplog.text) == ("alter " in change)


async def test_a_database_that_is_read_only_is_waited_for(database, nursery, caplog):
    load = Load("flow", 1)
    name = conninfo_to_dict(database)["dbname"]
    await execute(database, f"alter database {name} set default_transaction_read_only = on")
    async with trio.open_nursery() as starting:
        starting.start_soon(nursery.start, Worker([load.flow], database).run)
        await logged(
            caplog,
            "cannot execute INSERT in a read-only transaction: the server is a standby, or was"
            " made read-only\n",  # and no statement of ours
        )
        reset = f"alter database {name} set default_transaction_read_only = off"
        await execute(f"{database} options='-c default_transaction_read_only=off'", reset)
    async with connect(database) as client:
        await load.complete(client, database)
