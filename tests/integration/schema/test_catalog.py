"""What somebody has dropped, disabled or changed is found, and comes back as it is said."""

import os
import re

import pytest
import trio

from pgflow_events.errors import MigrationError
from pgflow_events.postgres.connection import Connection
from pgflow_events.schema.catalog import relations, routines
from pgflow_events.schema.migrations import find_missing, migrate_now, migrate_once
from pgflow_events.schema.shape import find_shape, whole_shape
from pgflow_events.schema.sql_files import sql_files, sql_folder

from ...conftest import migrated_database
from .test_migrations import query

THINGS = [
    *relations(file.text for file in sql_files("migrations")),
    *routines(file.text for kind in ("functions", "triggers") for file in sql_files(kind)),
]
BY_KIND = {
    kind: [thing for thing in THINGS if thing.kind == kind]
    for kind in ("relation", "partition", "key", "index", "function", "trigger")
}
SHAPE = sql_folder() / "SHAPE"
UPDATE = "PGFLOW_UPDATE_RELEASE=1 .venv/bin/pytest tests/integration/schema/test_catalog.py"
COLUMNS = [part for part in whole_shape() if part.kind == "column"]
PARTITIONED = {("output_blobs", "id"), ("blob_chunks", "blob_id")}  # cannot be dropped
CONSTRAINTS = [part for part in whole_shape() if part.kind == "constraint"]
# All that is there, but what belongs to the tables of days.
THERE = """
select c.relname from pg_class c
where c.relnamespace = 'pgflow'::regnamespace and c.relkind in ('r', 'p', 'v', 'S', 'c')
  and c.relname !~ '_[0-9]{8}$' and c.relname <> 'schema_files'
  and not exists (
    select from pg_depend d where d.objid = c.oid and d.deptype = 'i' and c.relkind = 'S'
  )
"""
INDEXES = """
select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid
where c.relnamespace = 'pgflow'::regnamespace and not i.indisprimary
  and not exists (select from pg_constraint k where k.conindid = i.indexrelid)
  and not exists (select from pg_inherits h where h.inhrelid = i.indexrelid)
"""


def found(database):
    async def look():
        async with await Connection.connect(database) as connection:
            return [str(thing) for thing in await find_missing(connection)]

    return trio.run(look)


def names(things):
    return sorted(thing.name for thing in things)


def test_all_that_is_there_is_read_from_the_files(database):
    assert names(BY_KIND["relation"]) == sorted(row.relname for row in query(database, THERE))
    assert names(BY_KIND["index"]) == sorted(row.relname for row in query(database, INDEXES))
    assert found(database) == []


def test_a_trigger_that_is_dropped_or_disabled_comes_back_by_a_migration(database):
    for thing in BY_KIND["trigger"]:
        name, table = thing.name.split(" on ")
        query(database, f"drop trigger {name} on pgflow.{table}")
    assert len(found(database)) == len(BY_KIND["trigger"])
    migrate_now(database)
    assert found(database) == []
    for thing in BY_KIND["trigger"]:
        query(database, f"alter table pgflow.{thing.table} disable trigger {thing.name.split()[0]}")
    assert "the trigger notify_tasks_inserted on step_tasks is lost or disabled: run" in (
        "\n".join(found(database))
    )
    migrate_now(database)
    assert found(database) == []


def test_functions_that_are_dropped_or_changed_come_back_by_a_migration(database):
    query(database, "drop function pgflow.start_flow")
    query(
        database,
        "create or replace function pgflow.channel(topic text, flow_slug text)"
        " returns text language sql as $$ select 'mine' $$",
    )
    assert [line.split(" is lost")[0] for line in found(database)] == [
        "the function pgflow.channel",
        "the function pgflow.start_flow",
    ]
    migrate_now(database)
    assert found(database) == []


def test_indexes_and_keys_come_back_by_the_statements_that_are_told(database):
    for thing in BY_KIND["index"]:
        query(database, f"drop index pgflow.{thing.name}")
    for thing in BY_KIND["key"]:
        (row,) = query(
            database,
            "select conname as name from pg_constraint"
            " where contype = 'p' and conrelid = %s::regclass",
            thing.name,
        )
        query(database, f"alter table {thing.name} drop constraint {row.name} cascade")
    # What refers to a key goes with it.
    references = [part for part in CONSTRAINTS if part.definition.startswith("FOREIGN")]
    mend_as_told(database, len(BY_KIND["index"]) + len(BY_KIND["key"]) + len(references))


async def test_whatever_table_is_lost_is_named_by_the_doctor_and_by_a_migration(database):
    async with await Connection.connect(database) as connection:
        for thing in BY_KIND["relation"]:
            if thing.statement:
                continue
            said = f"pgflow.{thing.name} is lost: restore it from a backup"
            await connection.execute("begin")
            await connection.execute(f"drop {await kind(connection, thing)} cascade")
            assert any(said in str(lost) for lost in await find_missing(connection))
            with pytest.raises(MigrationError, match=said):
                await migrate_once(connection, roles=False)
            await connection.execute("rollback")


def test_what_a_migration_comes_upon_and_cannot_make_again_is_not_asked_of_it(database):
    query(database, "select pgflow.create_flow('f')")
    query(database, "drop function pgmq.format_table_name")
    with pytest.raises(MigrationError, match="does not exist, and no migration creates it again"):
        migrate_now(database)


async def kind(connection, thing):
    """What it is called where it is dropped."""
    query = "select relkind::text from pg_class where oid = %s::regclass"
    cursor = await connection.execute(query, [f"pgflow.{thing.name}"])
    ((relkind,),) = await cursor.fetchall()
    kinds = {"S": "sequence", "v": "view", "c": "type"}
    return f"{kinds.get(relkind, 'table')} pgflow.{thing.name}"


def test_a_view_or_a_sequence_that_is_dropped_comes_back_by_a_migration(database):
    query(database, "insert into pgflow.worker_seats values (gen_random_uuid(), 7, '{}', 'h', 1)")
    query(database, "drop view pgflow.live_workers, pgflow.blobs")
    query(database, "drop sequence pgflow.seats")
    assert found(database) == [
        f"pgflow.{name} is lost: run `pgflow-events migrate`"
        for name in ("blobs", "seats", "live_workers")
    ]
    migrate_now(database)
    assert found(database) == []
    ((seat,),) = query(database, "select nextval('pgflow.seats')")
    assert seat == 8  # beyond those that are taken


def test_a_partition_that_is_detached_comes_back_by_the_statement_that_is_told(database):
    for thing in BY_KIND["partition"]:
        query(database, f"alter table pgflow.{thing.table} detach partition pgflow.{thing.name}")
    mend_as_told(database, len(BY_KIND["partition"]))


# Columns and constraints


@pytest.fixture
def any_shaped(any_server):
    """A migrated database on each server, of its own."""
    with migrated_database(any_server.dsn) as made:
        yield made


async def test_what_columns_and_constraints_there_are_stands_in_a_file(any_shaped):
    async with await Connection.connect(any_shaped) as connection:
        shape = await find_shape(connection)
    if "PGFLOW_UPDATE_RELEASE" in os.environ:
        SHAPE.write_text("".join(f"{part}\n" for part in shape))
    assert shape == whole_shape(), f"tables have changed: run `{UPDATE}`, and commit sql/SHAPE"


def mend_as_told(database, count):
    lost = found(database)
    assert len(lost) == count
    for line in lost:
        (statements,) = re.findall(r": `(.*)`$", line)
        for statement in statements.split("; "):
            query(database, statement)
    assert found(database) == []


async def test_whatever_column_is_lost_is_named_by_the_doctor_and_by_a_migration(database):
    async with await Connection.connect(database) as connection:
        for part in whole_shape():
            unsaid = (part.relation, part.name) in PARTITIONED or part.relation == "schema_files"
            if part.kind == "constraint" or unsaid:
                continue
            said = f"pgflow.{part.relation}.{part.name} is lost: restore it from a backup"
            what = "table" if part.kind == "column" else "type"
            await connection.execute("begin")
            await connection.execute(
                f"alter {what} pgflow.{part.relation} drop {part.kind} {part.name} cascade"
            )
            assert any(said in str(lost) for lost in await find_missing(connection))
            await connection.execute("rollback")
        await connection.execute("alter table pgflow.runs drop column has_blobs")
        with pytest.raises(MigrationError, match="has_blobs is lost: restore"):
            await migrate_once(connection, roles=False)


def test_defaults_and_what_may_not_be_null_come_back_by_the_statements_that_are_told(database):
    defaults = [part for part in COLUMNS if part.default]
    for part in defaults:
        query(database, f"alter table pgflow.{part.relation} alter {part.name} drop default")
    mend_as_told(database, len(defaults))
    # Of a key, no column can be null.
    needed = [part for part in COLUMNS if part.is_needed and not is_in_key(database, part)]
    for part in needed:
        query(database, f"alter table pgflow.{part.relation} alter {part.name} drop not null")
    mend_as_told(database, len(needed))


def is_in_key(database, part):
    return query(
        database,
        "select 1 from pg_index i join pg_attribute a on a.attrelid = i.indrelid"
        " and a.attnum = any(i.indkey) where i.indisprimary and i.indrelid = %s::regclass"
        " and a.attname = %s",
        f"pgflow.{part.relation}",
        part.name,
    )


def test_constraints_come_back_by_the_statements_that_are_told(database):
    for part in CONSTRAINTS:
        query(database, f"alter table pgflow.{part.relation} drop constraint {part.name} cascade")
    mend_as_told(database, len(CONSTRAINTS))


def test_a_type_that_was_changed_comes_back_by_the_statement_that_is_told(database):
    query(database, "alter table pgflow.step_tasks alter error_message type varchar(20)")
    mend_as_told(database, 1)


def test_numbers_that_are_lost_go_on_by_the_statement_that_is_told(database):
    query(database, "select pgflow.create_flow('f'), pgflow.add_step('f', 'a')")
    insert = "insert into pgflow.blob_dictionaries (flow_slug, step_slug, content, samples)"
    query(database, f"{insert} values ('f', 'a', '', 1), ('f', 'a', '', 1)")
    query(database, "alter table pgflow.blob_dictionaries alter id drop identity")
    mend_as_told(database, 1)
    assert [
        row.id for row in query(database, f"{insert} values ('f', 'a', '', 1) returning id")
    ] == [3]
