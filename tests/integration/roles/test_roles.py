"""What the three roles can do, each by a login of its own: their whole work."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
import trio

from blobstore import Blob
from pgflow_events import Context, Flow, Settings, Worker, connect
from pgflow_events.errors import MigrationError
from pgflow_events.postgres.connection import Connection
from pgflow_events.schema.migrations import check_schema, migrate, migrate_now, sql_files

from ...parts.observing import until
from ...parts.sealing import KEYS, rotated_by, unbind
from ...parts.servers.logins import (
    SECRET,
    execute,
    guarded_database,
    login,
    owned_database,
    run_once,
    server_with_logins,
)
from ...parts.servers.own_server import OwnServer

ROLES = {"pgflow_worker", "pgflow_client", "pgflow_observer"}
PAGE = "<p>" + "long and winding, " * 100_000
PIECE = bytes(1_000_000)


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[OwnServer]:
    with server_with_logins() as server:
        yield server


@pytest.fixture
def owned(guarded_server: OwnServer) -> Iterator[str]:
    """A database of olga's that was migrated with roles."""
    with guarded_database(guarded_server) as dsn:
        yield dsn


@pytest.fixture
def bare(guarded_server: OwnServer) -> Iterator[str]:
    """A database of olga's with nothing in it."""
    with owned_database(guarded_server) as dsn:
        yield dsn


async def pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield PIECE


def scraper() -> Flow:
    """Large values, streams, a retry after half a stream, a handle that is passed on, a join."""
    flow = Flow("scraper", max_attempts=3, base_delay=0)
    failures = iter([OSError("the line is dead")])

    @flow.step(flow.input)
    async def website(run: dict) -> str:
        return PAGE

    @flow.step(website)
    async def archive(page: str) -> AsyncIterator[bytes]:
        async for piece in pieces(9):
            yield piece
        for failure in failures:
            raise failure

    @flow.step(archive.blob)
    async def passed_on(archived: Blob[bytes]) -> Blob[bytes]:
        return archived

    @flow.step(website, passed_on.blob)
    async def total(page: str, archived: Blob[bytes]) -> int:
        return len(page) + archived.size

    return flow


async def test_a_worker_runs_a_flow_that_it_defines_and_a_client_gets_its_results(owned, nursery):
    flow = scraper()
    worker = Worker([flow], login(owned, "wanda"))
    await nursery.start(worker.run)
    async with connect(login(owned, "clio")) as client:
        run = await client.start(flow, {"text": PAGE})
        assert await run.result() == {"total": len(PAGE) + 9_000_000}
        assert await run.output(flow.steps["website"]) == PAGE
        handle = await run.output(flow.steps["archive"].blob)
        async with handle.open() as stream:
            assert sum([len(piece) async for piece in stream]) == 9_000_000


async def test_a_client_streams_an_input(owned, nursery):
    flow = Flow("large_input")

    @flow.step(flow.input)
    async def size(run: bytes) -> int:
        return len(run)

    await nursery.start(Worker([flow], login(owned, "wanda")).run)
    async with connect(login(owned, "clio")) as client:
        run = await client.start(flow, pieces(9))
        assert await run.result() == {"size": 9_000_000}


async def test_only_the_owner_cancels_and_logins_that_were_granted_it(owned, nursery):
    flow, running, ended = Flow("patient"), trio.Event(), trio.Event()

    @flow.step(flow.context)
    async def wait(context: Context) -> None:
        running.set()
        try:
            await trio.sleep_forever()
        finally:
            assert context.stopped == "run cancelled"
            ended.set()

    await nursery.start(Worker([flow], login(owned, "wanda")).run)
    async with connect(login(owned, "clio")) as client:
        run = await client.start(flow, None)
        await running.wait()
        for user in ("clio", "wanda", "otto"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                execute(
                    login(owned, user), "select from pgflow.cancel_runs(array[%s::uuid])", run.id
                )
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="cancel_runs"):
            await run.cancel()
        assert await run.status() == "started"
        execute(owned, "grant execute on function pgflow.cancel_runs to clio")
        with trio.fail_after(10):
            assert await run.cancel("enough")
            await ended.wait()


def test_sql_callers_need_no_more_rights_than_programs(owned):
    wanda, clio = login(owned, "wanda"), login(owned, "clio")
    execute(wanda, "select pgflow.create_flow('f', base_delay => 0), pgflow.add_step('f', 'a')")
    execute(clio, "select pgflow.start_flow('f', to_jsonb(repeat('x', 9000)))")
    poll = "select run_id, blobs_refs ? 'run' as large from pgflow.poll_for_tasks('f', 1, 1)"
    (task,) = execute(wanda, poll)
    assert task.large
    execute(wanda, "select pgflow.fail_task(%s, 'a', 0, 'not yet')", task.run_id)
    execute(wanda, poll)
    execute(
        wanda, "select pgflow.complete_task(%s, 'a', 0, to_jsonb(repeat('y', 9000)))", task.run_id
    )
    (read,) = execute(
        clio,
        "select pgflow.blob_json((output_blobs_refs ->> 'a')::uuid) as value from pgflow.runs"
        " where status = 'completed'",
    )
    assert read.value == "y" * 9000


async def test_a_worker_makes_good_for_one_with_another_login_that_died(
    guarded_server, owned, sleeper
):
    execute(guarded_server.dsn, "create role wilhelm login in role pgflow_worker")
    first = sleeper(login(owned, "wanda"))
    sleeper(login(owned, "wilhelm"))

    async def both_watched() -> bool:
        waiting = "select 1 as one from pg_locks where locktype = 'advisory' and not granted"
        return len(execute(owned, waiting)) == 2

    async def buried() -> bool:
        return len(execute(owned, "select 1 as one from pgflow.worker_seats")) == 1

    await until(both_watched)
    first.kill()
    await until(buried)


async def test_workers_with_different_logins_share_the_flows_that_one_of_them_defined(
    guarded_server, owned, nursery
):
    execute(guarded_server.dsn, "create role wilma login in role pgflow_worker")
    slow, done = Flow("shared", base_delay=0), trio.Event()

    @slow.step(slow.input)
    async def count(run: int) -> int:
        done.set()
        return run + 1

    first = Worker([slow], login(owned, "wanda"))
    async with trio.open_nursery() as running:
        await running.start(first.run)
        first.stop()
    await nursery.start(Worker([slow], login(owned, "wilma")).run)
    async with connect(login(owned, "clio")) as client:
        assert await (await client.start(slow, 1)).result() == {"count": 2}


async def test_a_worker_sets_new_options_of_a_flow_that_is_there(owned, nursery):
    def flow(**options: int) -> Flow:
        made = Flow("f", **options)
        made.step(made.input, **options)(size)
        return made

    def size(run: int) -> int:
        return run

    execute(owned, "select pgflow.create_flow('f'), pgflow.add_step('f', 'size')")
    await nursery.start(Worker([flow(timeout=7, keep_output=9)], login(owned, "wanda")).run)
    rows = "select opt_timeout, opt_keep_output from pgflow."
    assert execute(owned, f"{rows}flows union all {rows}steps") == [(7, 9)] * 2


async def test_a_worker_makes_room_for_blobs_and_forgets_them_but_leaves_runs_to_the_owner(
    owned, nursery, caplog
):
    run_once(owned)
    execute(owned, "update pgflow.output_blobs set expires_at = '2000-01-01'")
    days = "select day from pgflow.blob_days()"
    made = execute(owned, days)
    execute(owned, "drop table pgflow.output_blobs_{0}, pgflow.blob_chunks_{0}".format(
        made[-1].day.strftime("%Y%m%d")
    ))  # fmt: skip
    settings = Settings(keep_runs=timedelta(seconds=1), check_interval=0.1)
    await nursery.start(Worker([scraper()], login(owned, "wanda"), settings=settings).run)

    async def tidy() -> bool:
        left = "select 1 as one from pgflow.output_blobs where forgotten_at is null"
        return execute(owned, days) == made and not execute(owned, left) and "prune" in caplog.text

    await until(tidy)
    assert (
        "delete_dictionaries: have the owner of the schema pgflow run `pgflow-events prune`"
        in caplog.text
    )
    assert execute(owned, "select status from pgflow.runs") == [("completed",)]


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_queue_made_before_or_after_the_roles_is_the_workers(bare, moment, nursery):
    flow = Flow("f", base_delay=0)

    @flow.step(flow.input)
    async def count(run: int) -> int:
        return run + 1

    define = "select pgflow.create_flow('f'), pgflow.add_step('f', 'count')"
    async with await Connection.connect(bare) as olga:
        if moment == "before":
            await migrate(olga)
            await olga.execute(define)
        await migrate(olga, roles=True)
        if moment == "after":
            await olga.execute(define)
    await nursery.start(Worker([flow], login(bare, "wanda")).run)
    async with connect(login(bare, "clio")) as client:
        assert await (await client.start(flow, 1)).result() == {"count": 2}


def test_a_migration_without_roles_keeps_the_rights_of_those_that_are_there(owned):
    privileges = """
      select c.oid::regclass::text as name, c.relacl::text from pg_class c
      where c.relnamespace in ('pgflow'::regnamespace, 'pgmq'::regnamespace)
      union all
      select p.oid::regprocedure::text, concat(p.proacl, p.prosecdef, p.proconfig) from pg_proc p
      where p.pronamespace = 'pgflow'::regnamespace
      order by 1
    """
    execute(owned, "select pgflow.create_flow('f')")
    before = execute(owned, privileges)
    execute(owned, "grant update, delete on pgflow.runs to pgflow_client, pgflow_observer")
    execute(owned, "drop function pgflow.new_id() cascade")
    execute(owned, "alter table pgflow.runs alter run_id drop default")
    assert migrate_now(owned) == []
    assert execute(owned, privileges) == before


async def test_a_worker_of_another_release_of_the_grants_asks_for_a_migration(owned):
    path = sql_files("roles")[-1].path
    execute(owned, "update pgflow.schema_files set checksum = '' where path = %s", path)
    async with await Connection.connect(login(owned, "wanda")) as connection:
        with pytest.raises(MigrationError, match=r"roles/.* first\): run `pgflow-events migrate`"):
            await check_schema(connection)


@pytest.mark.parametrize(
    "mending",
    ["select pgflow.create_flow('f')", "select pgmq.create('f'); select pgflow.adopt_queue('f')"],
)
def test_a_queue_that_is_made_again_is_the_workers(owned, mending):
    execute(owned, "select pgflow.create_flow('f'), pgflow.add_step('f', 'a')")
    execute(owned, "select pgmq.drop_queue('f')")
    execute(owned, mending)
    execute(owned, "select pgflow.start_flow('f', '1')")
    claim = "select c.task from pgflow.claim_tasks('{f}', 1, gen_random_uuid(), null) c"
    assert len(execute(login(owned, "wanda"), claim)) == 2  # the last one sums up


def test_the_queue_of_another_application_is_granted_to_nobody(owned):
    execute(owned, "select pgflow.create_flow('f'), pgmq.drop_queue('f')")
    execute(owned, "select pgmq.create('f')")
    migrate_now(owned)
    granted = "select has_table_privilege('pgflow_worker', 'pgmq.q_f', 'select') as it"
    assert execute(owned, granted) == [(False,)]


def test_without_being_asked_for_no_role_is_made(guarded_server, bare):
    execute(guarded_server.dsn, "alter role pgflow_observer rename to elsewhere")
    try:
        migrate_now(bare)
        assert not execute(bare, "select 1 as one from pg_roles where rolname = 'pgflow_observer'")
        assert not execute(
            bare, "select 1 as one from pgflow.schema_files where path like 'roles%'"
        )
    finally:
        execute(guarded_server.dsn, "alter role elsewhere rename to pgflow_observer")


def test_who_may_not_make_roles_is_told_what_to_ask_for(guarded_server, bare):
    admin = guarded_server.dsn
    execute(admin, "alter role pgflow_client rename to elsewhere; alter role olga nocreaterole")
    try:
        with pytest.raises(MigrationError, match="permission denied to create role") as refused:
            migrate_now(bare, roles=True)
        assert "`create role pgflow_worker; create role pgflow_client; " in str(refused.value)
        assert execute(bare, "select to_regnamespace('pgflow') as schema") == [(None,)]

        execute(admin, "create role pgflow_client")
        migrate_now(bare, roles=True)
        execute(login(bare, "postgres"), "drop owned by pgflow_client")
        execute(admin, "drop role pgflow_client")
    finally:
        execute(admin, "alter role elsewhere rename to pgflow_client; alter role olga createrole")


def test_two_databases_may_make_the_roles_at_once(guarded_server):
    with (
        owned_database(guarded_server) as one,
        owned_database(guarded_server) as other,
        psycopg.connect(login(one, "postgres")) as first,
        psycopg.connect(login(other, "postgres"), autocommit=True) as second,
    ):
        (make_roles, *_) = sql_files("roles")
        names = {role: f"{role}_{uuid4().hex[:8]}" for role in ROLES}
        text = make_roles.text
        for role, name in names.items():
            text = text.replace(role, name)
        first.execute(text)
        second.execute("set lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):  # it waits for the first
            second.execute(text)
        first.commit()
        second.execute(text)
        for name in names.values():
            second.execute(f"drop role {name}")


def test_the_roles_cannot_log_in(guarded_server, owned):
    asked = "select rolname from pg_roles where rolname = any(%s) and not rolcanlogin"
    assert {row.rolname for row in execute(owned, asked, list(ROLES))} == ROLES


def test_an_observer_sees_runs_tasks_blobs_and_queues(owned):
    run_once(owned)
    otto = login(owned, "otto")
    seen = [
        "select run_id, flow_slug, status, started_at from pgflow.runs",
        "select step_slug, status from pgflow.step_states",
        "select step_slug, status, attempts_count, error_message from pgflow.step_tasks",
        "select id, raw_size, stored_size, codec, kind from pgflow.output_blobs",
        "select id, flow_slug, media_type, raw_size, chunks from pgflow.blobs",
        "select message from pgmq.a_f",
        "select * from pgflow.live_workers",
    ]
    for query in seen:
        (row,) = execute(otto, query)
        assert SECRET[:10] not in str(row)
    assert execute(otto, "select msg_id from pgmq.q_f") == []


async def test_a_rotation_may_seal_digests_again_and_nothing_else_changes_them(owned, nursery):
    flow = Flow("flow")
    flow.step(slug="page", by_element=True)(lambda: [PAGE, PAGE])
    settings = Settings(keys=KEYS, cache_budget=0)
    await nursery.start(Worker([flow], login(owned, "wanda"), settings=settings).run)
    async with connect(login(owned, "clio"), keys=KEYS) as client:
        run = await client.start(flow, None)
        output = await run.result()
        count = await unbind(login(owned, "olga"))
        assert (await rotated_by(login(owned, "olga"), KEYS)).blobs == count
        assert await run.result() == output
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        execute(login(owned, "olga"), "update pgflow.output_blobs set sha256 = 'mine'")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(login(owned, "wanda"), "update pgflow.output_blobs set data_key = 'mine'")
