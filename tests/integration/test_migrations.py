"""Bringing a database to this release, whatever it has."""

import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import namedtuple_row

from pgflow_events import migrations
from pgflow_events.connection import Connection
from pgflow_events.errors import DatabaseTooNew, MigrationError
from pgflow_events.migrations import check_schema, migrate_now, sql_files

PATHS = [file.path for file in sql_files("migrations")]
TABLES = "select count(*) from pg_class where relnamespace = 'pgflow'::regnamespace"


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
    shutil.copytree(migrations.sql_folder(), copy)
    monkeypatch.setattr(migrations, "sql_folder", lambda: copy)
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


def test_a_function_that_was_edited_is_recorded_anew(database, folder):
    edited = folder / "functions/channel.sql"
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
    code = (
        "import sys; from pgflow_events.migrations import migrate_now as m; print(m(sys.argv[1]))"
    )
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


# What check_schema() says


async def test_a_migrated_database_passes_the_check(database):
    await check(database)


async def test_a_database_that_was_never_migrated_does_not_pass_the_check(empty_database):
    with pytest.raises(MigrationError, match="run `pgflow-events migrate`"):
        await check(empty_database)


async def test_a_schema_of_another_hand_does_not_pass_the_check(empty_database):
    query(empty_database, "create schema pgflow")
    with pytest.raises(MigrationError, match="run `pgflow-events migrate`"):
        await check(empty_database)


@pytest.mark.parametrize("path", ["functions/channel.sql", "triggers/notify_runs_ended.sql"])
async def test_a_database_with_other_functions_does_not_pass_the_check(database, path):
    query(database, "update pgflow.schema_files set checksum = 'x' where path = %s", path)
    with pytest.raises(MigrationError, match=rf"1 SQL files differ, {path} first"):
        await check(database)


async def test_a_database_without_the_last_migration_does_not_pass_the_check(database):
    query(database, "delete from pgflow.schema_files where path = %s", PATHS[-1])
    with pytest.raises(MigrationError, match=rf"1 SQL files differ, {PATHS[-1]} first"):
        await check(database)


async def test_a_database_of_a_newer_release_does_not_pass_the_check(database):
    query(database, "insert into pgflow.schema_files values ('migrations/9999_future.sql', 'x')")
    with pytest.raises(DatabaseTooNew):
        await check(database)
