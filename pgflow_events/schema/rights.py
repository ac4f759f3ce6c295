"""Finds the rights that the role that migrates lacks, and who must grant them."""

from pgflow_events.errors import MigrationError
from pgflow_events.postgres.connection import Connection

# pgmq uses `create schema if not exists`, which requires the right even if the schema exists.
LACKS_CREATE = """
select format('grant create on database %I to %I', current_database(), current_user)
where not has_database_privilege(current_database(), 'create') and (
  to_regnamespace('pgflow') is null or to_regnamespace('pgflow_queues') is null
  or not exists (
    select from pg_class c where c.relnamespace = to_regnamespace('pgmq') and c.relname = 'meta'
  )
)
"""

# Names in a schema are looked up by oid, because this role may have no USAGE there.
MISSING = """
with ours as (
  select p.oid as pgmq, pg_get_userbyid(p.nspowner) as owner, coalesce(
    (select pg_get_userbyid(nspowner) from pg_namespace where nspname = 'pgflow'), current_user
  ) as name
  from pg_namespace p where p.nspname = 'pgmq'
),
users (role, makes_queues) as (
  select name, true from ours
  union all
  select r.rolname, false
  from pg_roles r join pg_namespace n on n.nspname = 'pgflow'
  where %s and r.rolname in ('pgflow_worker', 'pgflow_observer')
    and has_schema_privilege(r.rolname, n.oid, 'usage')
),
needed (position, statement, is_given) as (
  select
    1, format('grant usage on schema pgmq to %%I', role),
    has_schema_privilege(role, pgmq, 'usage')
  from ours, users
  union all
  select
    2, format('grant create on schema pgmq to %%I', role),
    has_schema_privilege(role, pgmq, 'create')
  from ours, users where makes_queues
  union all
  select
    3, format('grant %%s on pgmq.meta to %%I', wanted, role),
    has_table_privilege(role, c.oid, wanted)
  from ours cross join users cross join unnest(array['select', 'insert']) as w (wanted)
  join pg_class c on c.relnamespace = pgmq and c.relname = 'meta'
  where makes_queues
  union all
  select
    4, format('grant execute on all functions in schema pgmq to %%I', role),
    not exists (
      select from pg_proc p
      where p.pronamespace = pgmq and p.prokind = 'f'
        and not has_function_privilege(role, p.oid, 'execute')
    )
  from ours, users where makes_queues or role = 'pgflow_worker'
)
select owner, string_agg(statement, '; ' order by position, statement)
from ours, needed where not is_given group by 1
"""


async def missing_grants(connection: Connection, *, roles: bool) -> str | None:
    """What the owner of pgmq must run before our role can use it; None if nothing is missing.

    Args:
        connection: A connection of any role.
        roles: Whether our roles must be able to use pgmq too, if `migrate` has created them.
    """
    cursor = await connection.execute(MISSING, [roles])
    for owner, statements in await cursor.fetchall():
        return f"pgmq belongs to {owner}, who must run: {statements}"
    return None


async def refuse_without_create(connection: Connection) -> None:
    """Raise if a schema is missing, and the role may not create one in this database."""
    cursor = await connection.execute(LACKS_CREATE)
    for (statement,) in await cursor.fetchall():
        raise MigrationError(
            "this role may not create the schemas that are missing here: have the owner of the"
            f" database run `{statement}`"
        )
