"""Finds what was altered about tables and views so that they do not do what the engine expects.

`catalog.py` and `shape.py` find what is missing. Here everything exists, but a crash would empty a
table, or the table hides rows or rewrites statements, or a view shows something else.
"""

import psycopg

from pgflow_events.postgres.connection import Connection
from pgflow_events.schema.catalog import Thing, relations
from pgflow_events.schema.sql_files import sql_files

# The tables of the schema, and those of the queues of flows.
ALTERED = """
with ours as (
  select c.oid, c.relkind, c.relpersistence, c.relrowsecurity,
    format('%I.%I', n.nspname, c.relname) as name
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'v') and (
    n.nspname = 'pgflow'
    or n.nspname = 'pgmq' and c.relname in (
      select lower(format('%s_%s', t.what, f.flow_slug)) -- as pgmq names them
      from pgflow.flows f cross join unnest(array['q', 'a']) as t (what)
    )
  )
)
select 'unlogged', name, format('alter table %s set logged', name)
from ours where relpersistence = 'u'
union all
select 'row security', name, format('alter table %s disable row level security', name)
from ours where relrowsecurity
union all
select 'rule', format('%I on %s', r.rulename, name), format('drop rule %I on %s', r.rulename, name)
from ours join pg_rewrite r on r.ev_class = ours.oid
where not (relkind = 'v' and r.rulename = '_RETURN')
order by 1, 2
"""

# The same server writes both texts, so they are equal if the definitions are.
IS_CHANGED = """
select pg_get_viewdef(to_regclass(%s)) <> pg_get_viewdef('pg_temp.pgflow_expected'::regclass)
"""
# The doctor may look at a standby, and as a role that may create nothing.
UNKNOWN = (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.InsufficientPrivilege)


async def find_altered(connection: Connection) -> list[Thing]:
    """The tables that are unlogged, hide rows, or have rules."""
    cursor = await connection.execute(ALTERED)
    return [
        Thing(kind, name, remedy=f"`{statement}`")
        for kind, name, statement in await cursor.fetchall()
    ]


async def find_changed_views(connection: Connection) -> list[Thing]:
    """The views that show something else than those of this release.

    It creates each of them as a temporary one, compares the two, and rolls that back.
    """
    things = relations(file.text for file in sql_files("migrations"))
    views = [thing for thing in things if thing.statement.startswith("create view ")]
    return [
        _changed(f"pgflow.{view.name}") for view in views if await _is_changed(connection, view)
    ]


def _changed(name: str) -> Thing:
    return Thing("view", name, remedy=f"run `drop view {name}`, then `pgflow-events migrate`")


async def _is_changed(connection: Connection, view: Thing) -> bool:
    name = f"pgflow.{view.name}"
    expected = view.statement.replace(f"view {name}", "temporary view pgflow_expected", 1)
    try:
        async with connection.transaction(force_rollback=True):
            await connection.execute(expected.encode())
            cursor = await connection.execute(IS_CHANGED, [name])
            ((is_changed,),) = await cursor.fetchall()
    except UNKNOWN:
        return False
    return bool(is_changed)
