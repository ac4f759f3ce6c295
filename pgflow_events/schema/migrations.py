"""Brings a database to this release: pgmq, then tables, functions and triggers, then roles.

Everything happens in one transaction under an advisory lock. So several processes may migrate at
once, and a failure leaves the database as it was.
"""

import logging
from functools import partial

import psycopg
import trio

from pgflow_events.errors import MigrationError, Misuse
from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.passing import reason
from pgflow_events.schema.catalog import Thing, make_again, missing, relations, routines
from pgflow_events.schema.losses import requeue_lost_tasks
from pgflow_events.schema.pgmq import install_pgmq
from pgflow_events.schema.record import (
    BOOKKEEPING,
    UNRECORDED,
    applied,
    has_roles,
    record,
    record_release,
    refuse_edited,
)
from pgflow_events.schema.rights import missing_grants, refuse_without_create
from pgflow_events.schema.shape import find_changed, find_lost_columns
from pgflow_events.schema.sql_files import SqlFile, needed_by, sql_files
from pgflow_events.schema.strangers import (
    NEVER,
    refuse_another_pgmq,
    refuse_foreign_owners,
    refuse_foreign_queues,
    refuse_foreign_roles,
    refuse_foreign_schema,
    refuse_lost_record,
    refuse_unseen,
)
from pgflow_events.texts import counted

# The number is arbitrary, but must stay: all processes that migrate a database must use the same.
MIGRATION_LOCK = 7_032_116_204_071_391_102
TRIES = 5

# Raised if something is missing that an applied migration or pgmq created once.
LOST = (*UNRECORDED, psycopg.errors.UndefinedFunction, psycopg.errors.UndefinedObject)

log = logging.getLogger("pgflow_events.migrations")

# `create schema if not exists` requires the right to create schemas even if the schema exists.
OUR_SCHEMA = """
do $$ begin
  if to_regnamespace('pgflow') is null then
    create schema pgflow;
  end if;
end $$
"""

# PostgreSQL refuses partitioned tables if the default names the database's own tablespace.
KEEP_TABLESPACE = """
select set_config('default_tablespace', '', true)
from pg_database d join pg_tablespace t on t.oid = d.dattablespace
where d.datname = current_database() and t.spcname = current_setting('default_tablespace')
"""

# A role may lack the right to create temporary tables; a released migration is never edited.
WITHOUT_TEMPORARY = {
    "migrations/0005_blob_days.sql": (
        (" moved m", " pgflow.moved m"),
        ("create temporary table moved on commit drop as", "create table pgflow.moved as"),
        (
            "drop table pgflow.output_blobs_before;",
            "drop table pgflow.output_blobs_before, pgflow.moved;",
        ),
    )
}

# The lock covers flows that are being defined at this moment.
WRITE_QUEUE_FUNCTIONS = """
do $$ begin
  if to_regnamespace('pgflow_queues') is null then -- it is lost
    create schema pgflow_queues;
  end if;
end $$;
lock table pgflow.flows in share mode;
select pgflow.restore_queue(f.flow_slug) from pgflow.flows f
"""


async def migrate(database: str | Connection = "", *, roles: bool = False) -> list[str]:
    """Bring a database to this release, and restore what its queues have lost.

    Args:
        database: Its DSN, or a connection, of the role that owns the schema or is to own it.
        roles: Whether to create the roles `pgflow_worker`, `pgflow_client` and
            `pgflow_observer` too. From then on, each call brings their rights up to date.

    Returns:
        The paths of the migrations that were applied. Functions and triggers are always replaced.

    Raises:
        DatabaseTooNew: The database was migrated by a newer release; nothing was changed.
        MigrationError: The database cannot hold every text, pgmq cannot be installed or used, the
            roles cannot be created, or an applied migration was edited.
    """
    if not isinstance(database, Connection):
        async with await Connection.connect(database) as connection:
            return await migrate(connection, roles=roles)
    left = TRIES
    while True:
        try:
            new = await migrate_once(database, roles=roles)
            break
        except psycopg.errors.DeadlockDetected:
            # Workers lock the same tables in another order; by now they have their locks.
            if not (left := left - 1):
                raise
            log.warning("a deadlock with workers: trying again")
        except LOST as error:
            raise MigrationError(
                f"{reason(error)}, and no migration creates it again: restore it from a backup"
            ) from error
    for slug, count in (await requeue_lost_tasks(database)).items():
        log.warning("flow %s: sent the lost messages of %s again", slug, counted(count, "task"))
    return new


async def migrate_once(connection: Connection, *, roles: bool) -> list[str]:
    """Migrate in one transaction; it may fail by a deadlock."""
    await _refuse_encoding(connection)
    async with connection.transaction():
        # Objects of others in the schema public must not be taken for PostgreSQL's own.
        await connection.execute("set local search_path = pg_catalog, pg_temp")
        await connection.execute("select pg_advisory_xact_lock(%s)", [MIGRATION_LOCK])
        # A session that waits for a table blocks later ones: better to fail, and be run again.
        await connection.execute("set local lock_timeout = '10s'")
        await connection.execute(KEEP_TABLESPACE)
        await refuse_foreign_schema(connection)
        await refuse_without_create(connection)
        await connection.execute(OUR_SCHEMA)
        # This comes before anything of theirs is read: a view may call a function.
        await refuse_foreign_owners(connection)
        await connection.execute(BOOKKEEPING)
        recorded = await applied(connection)
        files = sql_files("migrations")
        refuse_edited(files, recorded)
        await refuse_lost_record(connection, recorded)
        await _refuse_lost_tables(connection, recorded)
        await refuse_foreign_queues(connection, recorded)
        await refuse_another_pgmq(connection)
        await _refuse_foreign_pgmq(connection, roles=False)
        await install_pgmq(connection)
        # Functions call each other, whatever their order.
        await connection.execute("set local check_function_bodies = off")
        new = [file for file in files if file.path not in recorded]
        for file in new:
            await _apply_migration(connection, file)
        if not new:
            _refuse_lost(await find_lost_columns(connection))
        for file in [*sql_files("functions"), *sql_files("triggers")]:
            await connection.execute(file.text.encode())
            await record(connection, file)
        made = relations(file.text for file in sql_files("migrations"))
        await make_again(connection, made)
        await connection.execute(WRITE_QUEUE_FUNCTIONS)
        if roles and not has_roles(recorded):
            await refuse_foreign_roles(connection)
        if roles or has_roles(recorded):
            await _make_roles(connection)
            await _refuse_foreign_pgmq(connection, roles=True)
        await record_release(connection)
    return [file.path for file in new]


def migrate_now(dsn: str, *, roles: bool = False) -> list[str]:
    """Bring the database at a DSN to this release, as `pgflow-events migrate` does.

    It blocks and calls `trio.run()`: call it before your own `trio.run()`, or in a thread. If the
    database is at this release already, it changes nothing.

    Args:
        dsn: The DSN of the role that owns the schema or is to own it.
        roles: Whether to create the three roles of few rights too.

    Returns:
        The paths of the migrations that were applied.

    Raises:
        MigrationError: See :func:`migrate`.
        psycopg.OperationalError: The database cannot be reached.
    """
    if trio.lowlevel.in_trio_run():
        raise Misuse("migrate_now() blocks: use await migrate(dsn), or call this before trio.run()")
    return trio.run(partial(migrate, dsn, roles=roles))


async def find_missing(connection: Connection) -> list[Thing]:
    """The things of this release that are missing in a database, or differ."""
    kinds = ["functions", "triggers"]
    if has_roles(await applied(connection)):
        kinds.append("roles")
    texts = [file.text for kind in kinds for file in sql_files(kind)]
    made = relations(file.text for file in sql_files("migrations"))
    lost = await missing(connection, [*made, *routines(texts)])
    return [*lost, *await find_changed(connection)]


async def _refuse_lost_tables(connection: Connection, recorded: dict[str, str]) -> None:
    """Raise if tables are lost: migrations do not create them again."""
    texts = [file.text for file in sql_files("migrations") if file.path in recorded]
    tables = [
        thing for thing in relations(texts) if thing.kind == "relation" and not thing.statement
    ]
    _refuse_lost(await missing(connection, tables))


def _refuse_lost(lost: list[Thing]) -> None:
    """Raise if something is lost."""
    if lost:
        raise MigrationError("; ".join(map(str, lost)))


async def check_schema(connection: Connection) -> None:
    """Raise unless the database was migrated by this very release.

    Raises:
        DatabaseTooNew: The database was migrated by a newer release.
        MigrationError: The database was never migrated, or by an older release; or it cannot hold
            every text; or `migrate` would refuse it, because a schema belongs to another program
            or the record of migrations is lost.
    """
    await _refuse_encoding(connection)
    await refuse_unseen(connection)
    try:
        recorded = await applied(connection)
    except UNRECORDED:
        recorded = {}
    if not recorded:
        await refuse_foreign_schema(connection)
        await refuse_lost_record(connection, recorded)
        raise MigrationError(NEVER)
    migrations = sql_files("migrations")
    refuse_edited(migrations, recorded)
    files = [*migrations, *sql_files("functions"), *sql_files("triggers")]
    if has_roles(recorded):
        files += sql_files("roles")
    if stale := [file.path for file in files if recorded.get(file.path) != file.checksum]:
        raise MigrationError(
            "the database is not at the release of this package"
            f" ({counted(len(stale), 'SQL file')} to apply, {stale[0]} first):"
            " run `pgflow-events migrate`"
        )


async def _refuse_encoding(connection: Connection) -> None:
    """Raise unless the database can hold every text; SQL_ASCII holds UTF-8 as mere bytes."""
    cursor = await connection.execute("show server_encoding")
    ((encoding,),) = await cursor.fetchall()
    if encoding not in {"UTF8", "SQL_ASCII"}:
        raise MigrationError(
            f"the encoding of the database is {encoding}, and must be UTF8:"
            " create database ... encoding 'UTF8' template template0"
        )


async def _apply_migration(connection: Connection, file: SqlFile) -> None:
    """Run a migration, after the functions that its tables need."""
    for needed in needed_by(file):
        await connection.execute(needed.text.encode())
    text = file.text
    for temporary, table in WITHOUT_TEMPORARY.get(file.path, ()):
        text = text.replace(temporary, table)
    await connection.execute(text.encode())
    await record(connection, file)


async def _make_roles(connection: Connection) -> None:
    """Create the roles if they are missing, and grant them their rights."""
    for file in sql_files("roles"):
        try:
            await connection.execute(file.text.encode())
        except psycopg.errors.InsufficientPrivilege as error:
            raise MigrationError(
                f"{file.path} cannot be applied ({error.diag.message_primary}). A role"
                " with CREATEROLE must run `create role pgflow_worker; create role pgflow_client;"
                " create role pgflow_observer`; then run this again as the owner of the schemas"
                " pgflow and pgmq"
            ) from error
        await record(connection, file)


async def _refuse_foreign_pgmq(connection: Connection, *, roles: bool) -> None:
    """Raise if the owner of pgmq has not granted the rights that we need."""
    if missing := await missing_grants(connection, roles=roles):
        raise MigrationError(missing)
