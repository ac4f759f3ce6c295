"""Refuses to migrate if schemas or roles with our names belong to another program."""

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg.rows import class_row

from pgflow_events.errors import MigrationError
from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.owners import STRANGERS, owned_by_another

SHOWN = 5  # names from a schema in an error, by which people recognise the schema

SCHEMA = """
select
  pg_get_userbyid(n.nspowner) as owner,
  array(
    select c.relname::text from pg_class c
    where
      c.relnamespace = n.oid and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
      and not c.relispartition
    union
    select p.proname::text from pg_proc p where p.pronamespace = n.oid
    union
    select t.typname::text from pg_type t
    where t.typnamespace = n.oid and t.typrelid = 0 and t.typcategory <> 'A'
    order by 1
  ) as names,
  array(
    select format('%%s.%%s', c.relname, a.attname)
    from pg_class c join pg_attribute a on a.attrelid = c.oid
    where c.relnamespace = n.oid and a.attnum > 0 and not a.attisdropped
  ) as columns
from pg_namespace n where n.nspname = %s
"""

# Our roles are groups, which need none of these attributes.
ROLES = """
select
  rolname,
  concat_ws(
    ', ', case when rolcanlogin then 'login' end, case when rolsuper then 'superuser' end,
    case when rolcreaterole then 'createrole' end, case when rolcreatedb then 'createdb' end,
    case when rolreplication then 'replication' end, case when rolbypassrls then 'bypassrls' end
  ) as attributes
from pg_roles where rolname in ('pgflow_worker', 'pgflow_client', 'pgflow_observer') order by 1
"""


@dataclass(frozen=True, slots=True)
class Schema:
    """The contents of a schema."""

    owner: str
    names: list[str]
    """The names of its relations, functions and types."""
    columns: list[str]
    """The columns of its relations, each as `table.column`."""

    def __str__(self) -> str:
        """The owner and some names, by which people may recognise the schema."""
        more = ", ..." if len(self.names) > SHOWN else ""
        return f"owner {self.owner}; it holds {', '.join(self.names[:SHOWN]) or 'nothing'}{more}"


async def _find_schema(connection: Connection, name: str) -> Schema | None:
    """The schema of this name."""
    cursor = connection.cursor(row_factory=class_row(Schema))
    await cursor.execute(SCHEMA, [name])
    return await cursor.fetchone()


async def refuse_foreign_schema(connection: Connection) -> None:
    """Raise if the schema `pgflow` holds tables of another program, or has lost our record."""
    found = await _find_schema(connection, "pgflow")
    if (
        found is None
        or not found.names
        or {"schema_files.path", "schema_files.checksum"} <= {*found.columns}
    ):
        return
    if "output_blobs.sha256" in found.columns:
        raise MigrationError(LOST_RECORD)
    if "worker_functions.function_name" in found.columns or "workers.queue_name" in found.columns:
        raise MigrationError(
            f"the schema pgflow of this database belongs to the other pgflow, the one for Supabase"
            f" ({found}): use another database for pgflow-events"
        )
    raise MigrationError(_foreign("pgflow", found))


async def refuse_foreign_owners(connection: Connection) -> None:
    """Raise if something in our schemas belongs to another role than the one that migrates.

    The triggers and functions of that role would run with the rights of the one that migrates.
    """
    cursor = await connection.execute(STRANGERS)
    for name, owner in await cursor.fetchall():
        raise MigrationError(owned_by_another(name, owner))


async def refuse_unseen(connection: Connection) -> None:
    """Raise unless our schema exists, and was created by a trusted role: see `owners.py`.

    While it is missing, any role that may create schemas could create it in the next moment.
    """
    if await _find_schema(connection, "pgflow") is None:
        raise MigrationError(NEVER)
    await connection.refuse_foreign_code()


async def refuse_lost_record(connection: Connection, recorded: Mapping[str, str]) -> None:
    """Raise if our tables exist, but have no record of migrations."""
    found = await _find_schema(connection, "pgflow")
    if not recorded and found and "flows.flow_slug" in found.columns:
        raise MigrationError(LOST_RECORD)


async def refuse_foreign_queues(connection: Connection, recorded: Mapping[str, str]) -> None:
    """Raise if the schema `pgflow_queues` exists, but no migration has created it yet."""
    found = await _find_schema(connection, "pgflow_queues")
    if found and "migrations/0008_queue_functions.sql" not in recorded:
        raise MigrationError(_foreign("pgflow_queues", found))


async def refuse_another_pgmq(connection: Connection) -> None:
    """Raise if the schema `pgmq` holds something other than pgmq."""
    found = await _find_schema(connection, "pgmq")
    if found is None or not found.names or "meta.queue_name" in found.columns:
        return
    if "format_table_name" in found.names:
        raise MigrationError("pgmq.meta is lost: restore it from a backup, or install pgmq again")
    raise MigrationError(_foreign("pgmq", found))


async def refuse_foreign_roles(connection: Connection) -> None:
    """Raise if a role with one of our names has more attributes than a group needs."""
    cursor = await connection.execute(ROLES)
    for name, attributes in await cursor.fetchall():
        if attributes:
            raise MigrationError(
                f"the role {name} exists already, and has more than it needs ({attributes}). If"
                f" another program uses it, rename it: `alter role {name} rename to ...`. Otherwise"
                f" run `alter role {name} {_negated(attributes)}`"
            )


def _negated(attributes: str) -> str:
    """The keywords that remove attributes from a role."""
    return " ".join(f"no{word}" for word in attributes.split(", "))


def _foreign(name: str, found: Schema) -> str:
    """The error about the schema of another program, with what to do."""
    return (
        f"the schema {name} of this database belongs to another program ({found}), and"
        " pgflow-events needs one of this name: use another database, or rename that schema"
        f" (`alter schema {name} rename to ...`) if its program allows it"
    )


NEVER = "the database was never migrated: run `pgflow-events migrate`"

LOST_RECORD = (
    "the tables of pgflow-events exist, but pgflow.schema_files, which records what was applied to"
    " them, is lost or empty: restore that table from a backup. If nothing need be kept, as after"
    " a dump without data, run `drop schema if exists pgflow, pgflow_queues cascade` and"
    " `pgflow-events migrate`"
)
