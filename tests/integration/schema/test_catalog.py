"""What somebody has dropped, disabled or changed is found, and comes back as it is said."""

import re

import pytest
import trio

from pgflow_events.errors import MigrationError
from pgflow_events.postgres.connection import Connection
from pgflow_events.schema.catalog import relations, routines
from pgflow_events.schema.migrations import find_missing, migrate_now, migrate_once
from pgflow_events.schema.sql_files import sql_files

from .test_migrations import query

THINGS = [
    *relations(file.text for file in sql_files("migrations")),
    *routines(file.text for kind in ("functions", "triggers") for file in sql_files(kind)),
]
BY_KIND = {
    kind: [thing for thing in THINGS if thing.kind == kind]
    for kind in ("relation", "key", "index", "function", "trigger")
}
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
    lost = found(database)
    assert len(lost) == len(BY_KIND["index"]) + len(BY_KIND["key"])
    for line in lost:
        (statement,) = re.findall(r": `(.*)`$", line)
        query(database, statement)
    assert found(database) == []


async def test_whatever_table_is_lost_is_named_by_the_doctor_and_by_a_migration(database):
    async with await Connection.connect(database) as connection:
        for thing in BY_KIND["relation"]:
            said = f"pgflow.{thing.name} is lost: restore it from a backup"
            await connection.execute("begin")
            await connection.execute(f"drop {await kind(connection, thing)} cascade")
            assert any(said in str(lost) for lost in await find_missing(connection))
            with pytest.raises(MigrationError, match=said):
                await migrate_once(connection, roles=False)
            await connection.execute("rollback")


async def kind(connection, thing):
    """What it is called where it is dropped."""
    query = "select relkind::text from pg_class where oid = %s::regclass"
    cursor = await connection.execute(query, [f"pgflow.{thing.name}"])
    ((relkind,),) = await cursor.fetchall()
    kinds = {"S": "sequence", "v": "view", "c": "type"}
    return f"{kinds.get(relkind, 'table')} pgflow.{thing.name}"
