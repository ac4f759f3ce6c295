"""Bringing a database to this release, whatever it has."""

import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
import trio
from psycopg.conninfo import make_conninfo
from psycopg.rows import namedtuple_row
from psycopg.sql import SQL, Identifier
from psycopg.types.json import Jsonb

from pgflow_events import Flow, Worker, connect
from pgflow_events.errors import DatabaseTooNew, MigrationError
from pgflow_events.postgres.connection import Connection
from pgflow_events.schema import migrations, record
from pgflow_events.schema import sql_files as files
from pgflow_events.schema.migrations import check_schema, migrate_now
from pgflow_events.schema.sql_files import sql_files

from ...conftest import new_database

PATHS = [file.path for file in sql_files("migrations")]
SQL_OF_OURS = files.sql_folder()
TABLES = "select count(*) from pg_class where relnamespace = 'pgflow'::regnamespace"


ENCODED = "create database {} template template0 encoding {} locale 'C'"


def query(database, text, *params):
    with psycopg.connect(database, autocommit=True, row_factory=namedtuple_row) as connection:
        cursor = connection.execute(text, params or None)
        return cursor.fetchall() if cursor.description else []


def schemas(database):
    rows = query(database, "select nspname from pg_namespace where nspname in ('pgflow', 'pgmq')")
    return {row.nspname for row in rows}


async def check(database):
    async with await Connection.connect(database) as connection:
        await check_schema(connection)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the SQL files that a test may change."""
    copy = tmp_path / "sql"
    shutil.copytree(files.sql_folder(), copy)
    monkeypatch.setattr(files, "sql_folder", lambda: copy)
    return copy


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


# What migrate() does


def test_an_empty_database_gets_all_migrations_functions_and_triggers(empty_database):
    assert migrate_now(empty_database) == PATHS
    recorded = query(empty_database, "select path, checksum from pgflow.schema_files")
    kinds = ("migrations", "functions", "triggers")
    assert dict(recorded) == {
        file.path: file.checksum for kind in kinds for file in sql_files(kind)
    }


def test_migrating_twice_applies_nothing_new(empty_database):
    migrate_now(empty_database)
    before = query(empty_database, "select * from pgflow.schema_files")
    assert migrate_now(empty_database) == []
    assert query(empty_database, "select * from pgflow.schema_files") == before


def test_functions_and_triggers_are_replaced_each_time(database):
    query(database, "drop function pgflow.start_flow")
    query(
        database,
        "create or replace function pgflow.channel(topic text, flow_slug text)"
        " returns text language sql as $$ select 'mine' $$",
    )
    query(database, "drop trigger notify_tasks_inserted on pgflow.step_tasks")
    migrate_now(database)
    query(database, "select pgflow.create_flow('f'), pgflow.start_flow('f', '1')")
    assert query(database, "select pgflow.channel('runs', 'f') as name")[0].name != "mine"
    triggers = query(database, "select tgname from pg_trigger where tgname like 'notify_tasks%'")
    assert len(triggers) == 2


def test_a_flow_whose_queue_has_no_functions_gets_them(database):
    query(database, "select pgflow.create_flow('f'), pgflow.add_step('f', 'a')")
    query(database, "drop function pgflow_queues.advance_q_f, pgflow_queues.claim_q_f")
    migrate_now(database)
    query(database, "select pgflow.start_flow('f', '1')")
    (task,) = query(database, "select step_slug from pgflow.poll_for_tasks('f', 1, 1, 0)")
    assert task.step_slug == "a"


def test_a_queue_that_was_dropped_comes_back_with_the_messages_of_its_tasks(database, caplog):
    query(database, "select pgflow.create_flow('f'), pgflow.add_step('f', 'a')")
    query(database, "select pgflow.start_flow('f', '1')")
    query(database, "select pgmq.drop_queue('f')")
    assert migrate_now(database) == []
    assert "flow f: sent the lost messages of 1 task again" in caplog.text
    (task,) = query(database, "select step_slug from pgflow.poll_for_tasks('f', 1, 1, 0)")
    assert task.step_slug == "a"


def test_a_queue_of_another_application_is_no_hindrance(database):
    query(database, "select pgflow.create_flow('f'), pgmq.drop_queue('f')")
    query(database, "select pgmq.create('f'), pgmq.send('f', '{}')")
    migrate_now(database)
    assert query(database, "select msg_id, read_ct from pgmq.q_f") == [(1, 0)]


def test_a_lost_schema_of_queue_functions_comes_back(database):
    query(database, "select pgflow.create_flow('f'), pgflow.add_step('f', 'a')")
    query(database, "drop schema pgflow_queues cascade")
    migrate_now(database)
    query(database, "select pgflow.start_flow('f', '1')")
    assert len(query(database, "select pgflow.poll_for_tasks('f', 1, 1, 0)")) == 1


def test_a_function_that_was_edited_is_recorded_anew(database, folder):
    edited = folder / "functions/waking/channel.sql"
    append(edited, "-- edited\n")
    assert migrate_now(database) == []
    recorded = "select checksum from pgflow.schema_files where path = 'functions/channel.sql'"
    (row,) = query(database, recorded)
    assert row.checksum in [file.checksum for file in sql_files("functions")]


def test_a_new_migration_is_applied_with_the_functions_it_needs(database, folder):
    (folder / "functions/five.sql").write_text(
        "create or replace function pgflow.five() returns integer language sql return 5;"
    )
    (folder / "migrations/9000_new.sql").write_text(
        "-- needs functions/five.sql\ncreate table pgflow.new (n integer default pgflow.five());"
    )
    query(database, "select pgflow.create_flow('f')")
    assert migrate_now(database) == ["migrations/9000_new.sql"]
    assert query(database, "insert into pgflow.new default values returning n") == [(5,)]
    assert query(database, "select flow_slug from pgflow.flows") == [("f",)]


def test_two_processes_may_migrate_at_once(empty_database):
    code = "import sys; from pgflow_events import migrate_now as m; print(m(sys.argv[1]))"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, empty_database], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    answers = [process.communicate()[0].decode().strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(answers) == sorted([str(PATHS), "[]"])


@pytest.mark.parametrize("kind", ["migrations", "functions", "triggers"])
def test_an_error_leaves_the_database_as_it_was(empty_database, folder, kind):
    (folder / kind / "zzz_broken.sql").write_text(
        "create table pgflow.half (n integer); select 1/0;"
    )
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate_now(empty_database)
    assert schemas(empty_database) == set()


def test_an_error_leaves_a_migrated_database_as_it_was(database, folder):
    tables = query(database, TABLES)
    (folder / "migrations/9000_new.sql").write_text("create table pgflow.new (n integer);")
    (folder / "functions/zzz.sql").write_text("select 1/0;")
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate_now(database)
    assert query(database, TABLES) == tables


def test_a_migration_that_was_changed_after_it_had_been_applied_is_refused(database, folder):
    append(folder / PATHS[0], "-- edited\n")
    with pytest.raises(MigrationError, match=r"0001_flows\.sql was changed"):
        migrate_now(database)


def test_a_database_of_a_newer_release_is_refused_and_not_touched(database):
    query(database, "insert into pgflow.schema_files values ('migrations/9999_future.sql', 'x')")
    query(database, "drop function pgflow.start_flow")
    with pytest.raises(DatabaseTooNew, match=r"9999_future\.sql is unknown .* upgrade"):
        migrate_now(database)
    assert query(database, "select to_regproc('pgflow.start_flow') as f")[0].f is None


# Which release it was


@pytest.fixture
def newer(folder, database):
    """A database that a later release has migrated, one that brought a function only."""
    number, digest = (folder / "RELEASE").read_text().split()
    append(folder / "functions/waking/channel.sql", "-- a later release\n")
    (folder / "RELEASE").write_text(f"{int(number) + 1} {digest}\n")
    migrate_now(database)
    shutil.rmtree(folder)
    shutil.copytree(SQL_OF_OURS, folder)
    return database


TOO_NEW = r"by a newer release \(pgflow-events .*, SQL \d+; this is .*\): upgrade this package"
OWN = "select checksum from pgflow.schema_files where path = 'functions/channel.sql'"


def test_a_release_that_brought_functions_only_is_not_undone_by_an_older_one(newer):
    before = query(newer, OWN)
    with pytest.raises(DatabaseTooNew, match=TOO_NEW):
        migrate_now(newer)
    assert query(newer, OWN) == before


async def test_a_worker_of_an_older_release_asks_to_be_upgraded_and_for_no_migration(newer):
    with pytest.raises(DatabaseTooNew, match=TOO_NEW) as refused:
        await check(newer)
    assert "migrate`" not in str(refused.value)


def test_what_a_release_wrote_says_which_it_was(database):
    (written,) = query(database, "select distinct release, version from pgflow.schema_files")
    ours = files.this_release()
    assert written == (ours.number, ours.version)


def test_the_same_release_may_be_edited_and_migrated_again(database, folder):
    append(folder / "functions/waking/channel.sql", "-- edited\n")
    assert migrate_now(database) == []


# What migration 0011 finds

BEFORE_0011 = """
alter table pgflow.schema_files drop column release, drop column version;
delete from pgflow.schema_files where path = 'migrations/0011_queue_marks.sql';
do $$
declare
  name text;
begin
  for name in
    select relname from pg_class where relnamespace = 'pgmq'::regnamespace and relkind = 'r'
  loop
    execute format('comment on table pgmq.%I is null', name);
  end loop;
end $$;
"""
ADOPTED = "select pgmq.create('emails'); select pgmq.send('emails', '{}')"
DEFINED = "select pgflow.create_flow('emails'); select pgflow.add_step('emails', 'a')"
MARK = "select pgflow.foreign_queue('emails') as tables"


def before_0011(database, *statements):
    """Bring a database back to the release before, which took any queue that was there."""
    query(database, "alter function pgflow.refuse_foreign_queue rename to refused")
    query(
        database,
        "create function pgflow.refuse_foreign_queue(text) returns void language sql as ''",
    )
    for statement in statements:
        query(database, statement)
    query(database, "drop function pgflow.refuse_foreign_queue")
    query(database, BEFORE_0011)


def test_a_queue_that_a_flow_had_made_is_its_own_even_if_others_sent_to_it(database):
    made = f"begin; {DEFINED}; commit"
    before_0011(database, made, "select pgmq.send('emails', '{}')")
    assert migrate_now(database) == ["migrations/0011_queue_marks.sql"]
    assert query(database, MARK) == [([],)]
    query(database, "select pgflow.create_flow('emails')")


def test_a_queue_with_nothing_but_tasks_in_it_is_its_flows(database):
    alone = "select pgmq.create('emails')"
    before_0011(database, alone, DEFINED, "select pgflow.start_flow('emails', '1')")
    migrate_now(database)
    assert query(database, MARK) == [([],)]


@pytest.mark.parametrize("taken", ["select 1", "select pgmq.archive('emails', 1)"])
def test_a_queue_that_a_flow_took_from_another_application_is_given_back(database, taken):
    before_0011(database, ADOPTED, DEFINED, taken)
    migrate_now(database)
    assert query(database, MARK) == [(["q_emails", "a_emails"],)]
    with pytest.raises(psycopg.errors.DuplicateTable, match="to another application"):
        query(database, "select pgflow.create_flow('emails')")
    query(database, "select pgflow.adopt_queue('emails'), pgflow.create_flow('emails')")


# What migration 0005 finds

OLD_FLOW = """
insert into pgflow.flows (flow_slug) values ('f');
insert into pgflow.steps (flow_slug, step_slug, step_index, deps_count)
values ('f', 'a', 0, 0), ('f', 'b', 1, 1);
insert into pgflow.deps (flow_slug, dep_slug, step_slug) values ('f', 'a', 'b');
"""
OLD_RUN = """
with blobs as (
  insert into pgflow.output_blobs (id, run_id, kind, codec, content, raw_size, sha256)
  select gen_random_uuid(), %(run)s, 'json', 'none', c, length(c), sha256(c)
  from unnest(array['"input"', '"of a"', '"of b"']::bytea[]) c
  returning id, content
)
select (select id from blobs where content = '"input"') as input,
  (select id from blobs where content = '"of a"') as a,
  (select id from blobs where content = '"of b"') as b
"""


def old_run(connection, run_id):
    """A run that is complete, with an input and outputs that are blobs of the old form."""
    connection.execute(
        "insert into pgflow.runs (run_id, flow_slug, status, input, output)"
        " values (%s, 'f', 'completed', 'null', '{}')",
        [run_id],
    )
    ids = connection.execute(OLD_RUN, {"run": run_id}).fetchone()
    connection.execute(
        "update pgflow.runs set input_blob_id = %s, output_blobs_refs = %s where run_id = %s",
        [ids.input, Jsonb({"b": str(ids.b)}), run_id],
    )
    for slug, blob_id in (("a", ids.a), ("b", ids.b)):
        connection.execute(
            "insert into pgflow.step_tasks (flow_slug, run_id, step_slug, status, output_blob_id)"
            " values ('f', %s, %s, 'completed', %s)",
            [run_id, slug, blob_id],
        )


async def nothing_lost(connection):
    return {}


@pytest.fixture
def old_database(any_server, monkeypatch, tmp_path):
    """A database as the release before left it: its tables, and blobs in them."""
    old = tmp_path / "old"
    shutil.copytree(files.sql_folder(), old)
    newer = [path for path in old.glob("migrations/*.sql") if path.name >= "0005"]
    for path in [*old.glob("triggers/*.sql"), *newer]:
        path.unlink()
    for path in old.rglob("functions/**/*.sql"):
        if path.stem not in {"new_id", "is_valid_slug"}:
            path.unlink()
    with new_database(any_server.dsn) as dsn:
        with monkeypatch.context() as patched:
            patched.setattr(files, "sql_folder", lambda: old)
            patched.setattr(migrations, "WRITE_QUEUE_FUNCTIONS", "select")
            patched.setattr(record, "RECORD_RELEASE", "select")
            patched.setattr(migrations, "requeue_lost_tasks", nothing_lost)
            migrate_now(dsn)
        with psycopg.connect(dsn, row_factory=namedtuple_row) as connection:
            connection.execute(OLD_FLOW)
            today = connection.execute("select pgflow.new_id() as id").fetchone().id
            for run_id in (today, uuid4(), UUID(int=5)):
                old_run(connection, run_id)
        yield dsn


NAMED = """
select pgflow.blob_json(r.input_blob_id) as input, pgflow.blob_json(a.output_blob_id) as a,
  pgflow.blob_json(b.output_blob_id) as b,
  b.output_blob_id = (output_blobs_refs ->> 'b')::uuid as same, has_blobs
from pgflow.runs r
join pgflow.step_tasks a on a.run_id = r.run_id and a.step_slug = 'a'
join pgflow.step_tasks b on b.run_id = r.run_id and b.step_slug = 'b'
"""


MOVED = """
select count(*) as blobs, count(distinct run_id) as runs, bool_and(raw_size = stored_size) as plain
from pgflow.blobs
where
  step_slug in ('run', 'a', 'b')
  and id between pgflow.first_blob_id(run_id) and pgflow.last_blob_id(run_id)
"""


def test_blobs_of_the_release_before_are_moved_and_named_as_before(old_database):
    assert migrate_now(old_database) == [path for path in PATHS if path >= "migrations/0005"]
    assert query(old_database, NAMED) == [("input", "of a", "of b", True, True)] * 3
    assert len(query(old_database, "select id from pgflow.output_blobs")) == 9
    (moved,) = query(old_database, MOVED)
    assert moved == (9, 3, True)
    assert migrate_now(old_database) == []


def test_moved_blobs_lie_where_new_ones_of_their_runs_would_and_go_with_them(old_database):
    migrate_now(old_database)
    places = query(
        old_database,
        "select distinct relname from pgflow.output_blobs b join pg_class c on c.oid = b.tableoid",
    )
    today = f"{datetime.now(UTC):%Y%m%d}"
    expected = {f"output_blobs_{today}", "output_blobs_default"}
    assert {row.relname for row in places} == expected
    query(old_database, "delete from pgflow.runs")
    assert query(old_database, "select id from pgflow.output_blobs") == []


def test_runs_without_blobs_are_left_as_they_are(old_database):
    with psycopg.connect(old_database) as connection:
        connection.execute("insert into pgflow.runs (flow_slug, input) values ('f', '1')")
    migrate_now(old_database)
    small = "select has_blobs, input_blob_id, output_blobs_refs from pgflow.runs where input = '1'"
    assert query(old_database, small) == [(False, None, None)]


# What check_schema() says


async def test_a_migrated_database_passes_the_check(database):
    await check(database)


async def test_a_database_that_was_never_migrated_does_not_pass_the_check(empty_database):
    with pytest.raises(MigrationError, match="was never migrated: run `pgflow-events migrate`"):
        await check(empty_database)


async def test_a_schema_of_another_hand_does_not_pass_the_check(empty_database):
    query(empty_database, "create schema pgflow")
    with pytest.raises(MigrationError, match="run `pgflow-events migrate`"):
        await check(empty_database)


@pytest.mark.parametrize("path", ["functions/channel.sql", "triggers/notify_runs_ended.sql"])
async def test_a_database_with_other_functions_does_not_pass_the_check(database, path):
    query(database, "update pgflow.schema_files set checksum = 'x' where path = %s", path)
    with pytest.raises(MigrationError, match=rf"1 SQL file to apply, {path} first"):
        await check(database)


async def test_a_database_without_the_last_migration_does_not_pass_the_check(database):
    query(database, "delete from pgflow.schema_files where path = %s", PATHS[-1])
    with pytest.raises(MigrationError, match=rf"1 SQL file to apply, {PATHS[-1]} first"):
        await check(database)


async def test_a_database_of_a_newer_release_does_not_pass_the_check(database):
    query(database, "insert into pgflow.schema_files values ('migrations/9999_future.sql', 'x')")
    with pytest.raises(DatabaseTooNew):
        await check(database)


# How its text is encoded


@pytest.fixture
def encoded_database(server, request):
    name = f"test_{uuid4().hex}"
    query(server.dsn, SQL(ENCODED).format(Identifier(name), request.param))
    yield make_conninfo(server.dsn, dbname=name)
    query(server.dsn, SQL("drop database {} with (force)").format(Identifier(name)))


@pytest.mark.parametrize("encoded_database", ["LATIN1"], indirect=True)
async def test_a_database_in_another_encoding_is_refused_and_not_touched(encoded_database):
    said = "the encoding of the database is LATIN1, and must be UTF8"
    with pytest.raises(MigrationError, match=said):
        await trio.to_thread.run_sync(migrate_now, encoded_database)
    assert schemas(encoded_database) == set()
    with pytest.raises(MigrationError, match=said):
        await check(encoded_database)


@pytest.mark.parametrize("encoded_database", ["SQL_ASCII"], indirect=True)
async def test_a_database_without_an_encoding_holds_any_text(encoded_database):
    await trio.to_thread.run_sync(migrate_now, encoded_database)
    await check(encoded_database)
    flow, text = Flow("f", input=str), "Größe: 5 Ω 😀"
    flow.step(flow.input, slug="a")(lambda given: f"{given}!")
    async with trio.open_nursery() as nursery, connect(encoded_database) as client:
        await nursery.start(Worker([flow], encoded_database).run)
        run = await client.start(flow, text)
        assert await run.result() == {"a": f"{text}!"}
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("encoded_database", ["SQL_ASCII"], indirect=True)
async def test_a_task_whose_input_is_no_utf_8_fails_and_keeps_no_other_waiting(encoded_database):
    await trio.to_thread.run_sync(migrate_now, encoded_database)
    flow = Flow("f", input=str)
    flow.step(flow.input, slug="a")(lambda given: given)
    async with trio.open_nursery() as nursery, connect(encoded_database) as client:
        await nursery.start(Worker([flow], encoded_database).run)
        # As a client that speaks another encoding puts it there.
        with psycopg.connect(encoded_database, autocommit=True) as latin:
            latin.pgconn.exec_(b"select pgflow.start_flow('f', '\"\xe9\"')")
        run = await client.start(flow, "what comes after it")
        with trio.fail_after(10):
            assert await run.result() == {"a": "what comes after it"}
        nursery.cancel_scope.cancel()
    (task,) = query(
        encoded_database, "select error_message from pgflow.step_tasks where status = 'failed'"
    )
    assert 'invalid byte sequence for encoding "UTF8"' in str(task.error_message)
