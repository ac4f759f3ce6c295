"""Installs pgmq, as an extension or as plain SQL, unless the database has it."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg

from pgflow_events.errors import MigrationError
from pgflow_events.postgres.connection import Connection

PGMQ_STATE = """
select
  (select extversion from pg_extension where extname = 'pgmq') as installed,
  (select default_version from pg_available_extensions where name = 'pgmq') as available,
  to_regclass('pgmq.meta') is not null as plain,
  to_regprocedure('pgmq.read(text,integer,integer,jsonb)') is not null as recent,
  obj_description(to_regnamespace('pgmq'), 'pg_namespace') as remark
"""


@dataclass(frozen=True, slots=True)
class Pgmq:
    """The state of pgmq in a database."""

    installed: str | None
    """Version of the installed extension."""
    available: str | None
    """Version of the extension that could be installed."""
    plain: bool
    """Whether its tables exist, from the extension or from plain SQL."""
    recent: bool
    """Whether it is 1.5.0 or newer."""
    remark: str | None
    """Comment of its schema."""

    def __str__(self) -> str:
        """The state in words, for `pgflow-events doctor`."""
        if self.installed:
            return f"extension {self.installed}"
        return f"plain SQL ({self.remark or 'installed by hand'})" if self.plain else "missing"


async def pgmq_state(connection: Connection) -> Pgmq:
    """The state of pgmq in the database."""
    cursor = await connection.execute(PGMQ_STATE)
    (row,) = await cursor.fetchall()
    return Pgmq(*row)


async def install_pgmq(connection: Connection) -> None:
    """Ensure that there is a pgmq 1.5.0 or newer; if missing, install the extension or the SQL."""
    state = await pgmq_state(connection)
    if not state.plain:
        await (_create_pgmq_extension if state.available else _apply_pgmq_sql)(connection)
        state = await pgmq_state(connection)
    if not state.recent:
        raise MigrationError(
            f"pgmq is older than 1.5.0 here ({state}): upgrade it with"
            " `alter extension pgmq update`"
        )


async def _create_pgmq_extension(connection: Connection) -> None:
    """Install the extension that the server offers."""
    try:
        async with connection.transaction():
            await connection.execute("create extension pgmq")
    except psycopg.errors.InsufficientPrivilege as error:
        raise MigrationError(
            f"have the owner of the database run `create extension pgmq` ({error})"
        ) from error


async def _apply_pgmq_sql(connection: Connection) -> None:
    """Install pgmq from the SQL file that its Python package carries."""
    # Importing the package takes 150 ms, and we need only its file.
    spec = find_spec("pgmq")
    if spec is None or not spec.submodule_search_locations:
        raise MigrationError(
            "this server offers no extension pgmq, and the package that carries it as plain SQL"
            " is missing: pip install 'pgflow-events[embedded]'"
        )
    folder = Path(spec.submodule_search_locations[0]) / "sql"
    await connection.execute("create schema if not exists pgmq")
    await connection.execute((folder / "pgmq.sql").read_bytes())
    # The version of the package differs from that of pgmq.
    remark = f"installed by pgflow-events, pgmq {(folder / 'VERSION').read_text().strip()}"
    await connection.execute(
        psycopg.sql.SQL("comment on schema pgmq is {}").format(psycopg.sql.Literal(remark))
    )
