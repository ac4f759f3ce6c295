"""Sessions that the server ends or refuses, and answers that are lost."""

import random
from contextlib import ExitStack, suppress

import psycopg
import pytest
import trio
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgflow_events import Flow, RunFailed, Settings, Worker, connect
from pgflow_events.postgres.connection import Connection

from ...conftest import migrated_database
from ...parts.load import Load
from ...parts.observing import execute, logged, rows, until
from ...parts.servers.own_server import own_server
from ..parts.breakpoint import Breakpoint
from ..parts.soundness import assert_sound
from ..parts.victim import PAGE, Rescuer

MOST = 16  # connections
# One of the others, chosen by a number from 0 to 1.
TERMINATE_ONE = """
select pg_terminate_backend(pid) from (
  select pid, row_number() over (order by pid) as n, count(*) over () as all
  from pg_stat_activity
  where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
) s where n = 1 + floor(%s * s.all)
"""
TERMINATE_OTHERS = """
select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity
where datname = current_database() and application_name <> 'ours'
"""
TERMINATE_ALL = """
select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity
where datname = %s and pid <> pg_backend_pid()
"""
ALLOW = "alter database {} allow_connections {}"


@pytest.mark.parametrize(
    "runs", [60, pytest.param(600, marks=[pytest.mark.slow_fault, pytest.mark.timeout(180)])]
)
async def test_sessions_that_end_at_random_under_load_lose_nothing(database, nursery, runs):
    load, chance = Load("flow", runs), random.Random(5)
    for _ in range(2):
        await nursery.start(Worker([load.flow], database, hooks=()).run)

    async def trouble() -> None:
        for attempts in range(5, 3 * runs, 5):
            await load.reach(attempts)
            await rows(database, TERMINATE_ONE, chance.random())

    async with connect(database) as client:
        await load.complete(client, database, trouble)
    await assert_sound(database)


@pytest.fixture
def narrow_database():
    """Of a server that lets few in."""
    limits = {"max_connections": str(MOST), "superuser_reserved_connections": "0"}
    with own_server(settings=limits) as server, migrated_database(server.dsn) as made:
        yield made


def take_all(dsn: str) -> list[psycopg.Connection]:
    """Take the connections that others have, and those that are left."""
    ours = make_conninfo(dsn, application_name="ours")
    taken = [psycopg.connect(ours, autocommit=True)]
    while len(taken) < MOST:  # others may be sooner
        taken[0].execute(TERMINATE_OTHERS)
        with suppress(psycopg.OperationalError):
            taken.append(psycopg.connect(ours))
    return taken


async def test_where_no_connection_is_left_a_worker_says_so_and_goes_on(
    narrow_database, nursery, caplog
):
    load = Load("flow", 20)
    await nursery.start(Worker([load.flow], narrow_database, hooks=()).run)

    async def trouble() -> None:
        await load.reach(20)
        taken = await trio.to_thread.run_sync(take_all, narrow_database)
        await logged(caplog, "too many clients")
        for connection in taken:
            connection.close()

    async with connect(narrow_database) as client:
        await load.complete(client, narrow_database, trouble)
    await assert_sound(narrow_database)


async def test_where_no_connection_is_left_to_listen_a_client_looks_by_its_own(
    narrow_database, caplog
):
    await execute(
        narrow_database, "select pgflow.create_flow('flow'), pgflow.add_step('flow', 'step')"
    )
    async with connect(narrow_database, connections=1) as client:
        run = await client.start("flow", None)
        with ExitStack() as stack:
            taken = stack.enter_context(psycopg.connect(narrow_database, autocommit=True))
            with suppress(psycopg.OperationalError):
                while True:
                    stack.enter_context(psycopg.connect(narrow_database))
            async with trio.open_nursery() as waiters:
                waiters.start_soon(run.wait)
                await logged(caplog, "too many clients already; listening again in")
                taken.execute("select pgflow.poll_for_tasks('flow', 1, 1)")
                taken.execute("select pgflow.complete_task(%s, 'step', 0, '1')", [run.id])
                with trio.fail_after(20):
                    await run.wait()
        assert await run.result() == {"step": 1}


async def test_a_database_that_lets_nobody_in_for_a_while_gets_its_answers_afterwards(
    own_database, server_of_ours, nursery, caplog
):
    load = Load("flow", 20)
    await nursery.start(Worker([load.flow], own_database, hooks=()).run)
    name = conninfo_to_dict(own_database)["dbname"]

    async def has_tried_often() -> bool:
        return caplog.text.count("is not currently accepting connections") >= 5

    async def trouble() -> None:
        await load.reach(20)
        await execute(server_of_ours.dsn, ALLOW.format(name, "false"))
        await rows(server_of_ours.dsn, TERMINATE_ALL, name)
        await until(has_tried_often)
        await execute(server_of_ours.dsn, ALLOW.format(name, "true"))

    async with connect(own_database) as client:
        await load.complete(client, own_database, trouble)
    await assert_sound(own_database)


async def test_where_the_answer_to_a_claim_is_lost_it_costs_an_attempt_and_its_time(
    client, database, nursery
):
    point = Breakpoint(database, "pgflow_queues.claim_", "committed")
    await nursery.start(point.run)
    worker = Rescuer(point.dsn, timeout=1)
    await worker.define()
    run = await client.start("pages", None)
    await nursery.start(worker.run)
    await point.reached.wait()
    point.drop()
    assert await run.result() == {"length": len(PAGE)}
    assert worker.begun == ["page 2", "length 1"]
    await assert_sound(database)


@pytest.mark.parametrize(
    ("call_timeout", "said"),
    [(30, "attempt 1 gave no answer within its 1 seconds"), (0.5, None)],
    ids=["longer than the attempt", "shorter"],
)
async def test_a_commit_that_is_swallowed_is_made_again_in_time_or_the_attempt_is_lost(
    client, database, nursery, call_timeout, said
):
    point = Breakpoint(database, "pgflow.complete_tasks", "asked")
    await nursery.start(point.run)
    flow = Flow("flow", timeout=1, max_attempts=1)
    flow.step(slug="step")(lambda: "done")
    settings = Settings(call_timeout=call_timeout)
    await nursery.start(Worker([flow], point.dsn, settings=settings).run)
    run = await client.start(flow, None)
    await point.reached.wait()  # and never goes on
    with trio.fail_after(20):
        if said:
            with pytest.raises(RunFailed, match=said):
                await run.result()
        else:
            assert await run.result() == {"step": "done"}


async def test_attempts_lapse_while_the_table_of_their_outputs_is_locked(client, database, nursery):
    flow = Flow("flow", timeout=1, max_attempts=50)
    flow.step(slug="step")(lambda: PAGE)
    await nursery.start(Worker([flow], database).run)
    async with await Connection.connect(database) as other, other.transaction():
        await other.execute("lock table pgflow.output_blobs in exclusive mode")
        run = await client.start(flow, None)
        await until(
            lambda: rows(database, "select from pgflow.step_tasks where attempts_count > 1")
        )
    assert await run.result() == {"step": PAGE}


@pytest.mark.parametrize("sqlstate", ["40P01", "40001"])
async def test_a_call_that_others_got_in_the_way_of_is_made_again(database, nursery, sqlstate):
    load = Load("flow", 40)
    await execute(
        database,
        "create sequence pgflow.trouble",
        f"""
        create function pgflow.get_in_the_way() returns trigger language plpgsql as $$
        begin
          if nextval('pgflow.trouble') % 3 = 0 then
            raise exception 'others got in the way' using errcode = '{sqlstate}';
          end if;
          return null;
        end $$
        """,
        """
        create trigger get_in_the_way after update on pgflow.step_tasks
        for each statement execute function pgflow.get_in_the_way()
        """,
    )
    await nursery.start(Worker([load.flow], database, hooks=()).run)
    async with connect(database) as client:
        await load.complete(client, database)
    assert set(load.attempts.values()) == {1}
    await assert_sound(database)
