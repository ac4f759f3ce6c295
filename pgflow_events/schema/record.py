"""What a database records of the SQL files that were applied to it."""

import psycopg
from psycopg.sql import SQL, Literal

from pgflow_events.errors import DatabaseTooNew, MigrationError
from pgflow_events.postgres.connection import Connection
from pgflow_events.schema.sql_files import Release, SqlFile, this_release

# Raised if the schema is missing, or belongs to another program.
UNRECORDED = (
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
)

BOOKKEEPING = """
create table if not exists pgflow.schema_files (
  path text primary key,
  checksum text not null, -- sha256 of the file
  applied_at timestamptz not null default clock_timestamp()
)
"""

# The table may not have these columns yet.
RECORDED = """
select path, checksum, to_jsonb(f) ->> 'release', to_jsonb(f) ->> 'version'
from pgflow.schema_files f
"""

RECORD_RELEASE = """
update pgflow.schema_files set release = {0}, version = {1}
where (release, version) is distinct from ({0}, {1})
"""


async def applied(connection: Connection) -> dict[str, str]:
    """The checksums of the applied files by path.

    Raises:
        DatabaseTooNew: A newer release applied them.
    """
    cursor = await connection.execute(RECORDED)
    rows = await cursor.fetchall()
    releases = [Release(int(number), version) for *_, number, version in rows if number]
    newest = max(releases, key=lambda release: release.number, default=None)
    if newest and newest.number > (ours := this_release()).number:
        raise DatabaseTooNew(
            f"the database was migrated by a newer release ({newest}; this is {ours}): upgrade this"
            " package"
        )
    return {path: checksum for path, checksum, *_ in rows}


def refuse_edited(files: list[SqlFile], recorded: dict[str, str]) -> None:
    """Raise if the database has migrations that this release lacks, or that were edited."""
    known = {file.path for file in files}
    newer = sorted(
        path for path in recorded if path.startswith("migrations/") and path not in known
    )
    if newer:
        raise DatabaseTooNew(
            f"the database was migrated by a newer release ({newer[0]} is unknown to"
            f" pgflow-events {this_release().version}): upgrade this package"
        )
    for file in files:
        if recorded.get(file.path, file.checksum) != file.checksum:
            raise MigrationError(f"{file.path} was changed after it had been applied")


def has_roles(recorded: dict[str, str]) -> bool:
    """Whether the roles were made in this database."""
    return any(path.startswith("roles/") for path in recorded)


async def record_release(connection: Connection) -> None:
    """Record that this release wrote the contents of the database."""
    ours = this_release()
    await connection.execute(
        SQL(RECORD_RELEASE).format(Literal(ours.number), Literal(ours.version))
    )


async def record(connection: Connection, file: SqlFile) -> None:
    """Record that a file was applied."""
    await connection.execute(
        """
        insert into pgflow.schema_files (path, checksum) values (%s, %s)
        on conflict (path) do update
        set checksum = excluded.checksum, applied_at = clock_timestamp()
        where schema_files.checksum <> excluded.checksum
        """,
        [file.path, file.checksum],
    )
