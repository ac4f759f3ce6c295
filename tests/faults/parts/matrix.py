"""All that a server can be set to, and all that must work whatever it is set to."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import zip_longest

import psycopg
import pytest
import trio
from click.testing import CliRunner
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Composable, Identifier, Literal

from pgflow_events import Flow, Worker, connect
from pgflow_events.cli import commands
from pgflow_events.postgres.connection import Connection
from pgflow_events.schema.migrations import migrate

from ...conftest import new_database

PAGE = "<p>a long page, " * 5000
# Of those that somebody may set in a session, or for a database or role as a superuser.
SETTABLE = """
select name, vartype, setting, enumvals, min_val::float8, max_val::float8, unit,
  context
from pg_settings where context in ('user', 'superuser', 'backend', 'superuser-backend')
"""
# A text may be anything; those that are not named here can only name what has to be there:
# a library, a tablespace, a locale, a resource manager.
TEXTS = {
    "DateStyle": ["SQL, DMY", "German", "Postgres, MDY", "ISO, YMD"],
    "TimeZone": ["Asia/Tokyo", "<+0330>-03:30", "America/New_York"],
    "application_name": ["it's mine"],
    "createrole_self_grant": ["set, inherit"],
    "default_text_search_config": ["pg_catalog.simple"],
    "plpgsql.extra_errors": ["all", "too_many_rows"],
    "plpgsql.extra_warnings": ["all"],
    "restrict_nonsystem_relation_kind": ["view, foreign-table", "view"],
    "search_path": ["hostile, pg_catalog", "", "nowhere"],
    "timezone_abbreviations": ["India"],
    "wal_consistency_checking": ["heap"],
    "backtrace_functions": ["errfinish"],
    "dynamic_library_path": ["/nowhere:$libdir"],
    "log_connections": ["all"],
    "temp_tablespaces": ["pg_default"],
    "default_tablespace": ["pg_default"],
    "lc_monetary": ["C.UTF-8"],
    "lc_numeric": ["C.UTF-8"],
    "lc_time": ["C.UTF-8"],
    "lc_messages": ["C.UTF-8"],
    "default_table_access_method": [],  # there is only one
    "client_encoding": ["LATIN1", "SQL_ASCII"],
    "local_preload_libraries": [],
    "session_preload_libraries": ["plpgsql"],
    "extension_control_path": ["/nowhere:$system"],
    "extension_destdir": [],
    "output_plugin_libraries": ["pgoutput"],
}
LEFT_OUT = {
    "default_transaction_read_only": "an operator's stop, which is heeded: see docs/inside",
    "transaction_read_only": "of a transaction, and not of a session",
    "transaction_isolation": "of a transaction, and not of a session",
    "transaction_deferrable": "of a transaction, and not of a session",
    "post_auth_delay": "it does nothing but wait",
}
# A parallel worker begins with the database's settings, which end a transaction of 1 ms at once.
ALONE = {"debug_parallel_query", "force_parallel_mode"}
# Whoever has these in the way finds them before those of PostgreSQL.
HOSTILE = """
create schema hostile;
create function hostile.refuse() returns text language plpgsql
as $$ begin raise exception 'this is not PostgreSQL''s own'; end $$;
create function hostile.clock_timestamp() returns timestamptz language sql
as 'select hostile.refuse()::timestamptz';
create function hostile.current_setting(text, boolean) returns text language sql
as 'select hostile.refuse()';
create function hostile.set_config(text, text, boolean) returns text language sql
as 'select hostile.refuse()';
create function hostile.pg_backend_pid() returns integer language sql
as 'select hostile.refuse()::integer';
create function hostile.differs(integer, integer) returns boolean language sql
as 'select hostile.refuse()::boolean';
create operator hostile.= (leftarg = integer, rightarg = integer, function = hostile.differs);
"""

Values = dict[str, str]
Way = Callable[[str, Values], AbstractContextManager[None]]


@dataclass(frozen=True)
class Settable:
    """A row of pg_settings."""

    name: str
    vartype: str
    setting: str
    enumvals: list[str] | None
    least: float | None
    most: float | None
    unit: str | None
    context: str

    def others(self) -> list[str]:
        """Values that it could have as well."""
        if self.vartype == "bool":
            return ["off" if self.setting == "on" else "on"]
        if self.vartype == "enum":
            values = [value for value in self.enumvals or [] if value != self.setting]
            return values if len(values) < 6 else values[::5]  # a level of the log
        if self.vartype == "string":
            return TEXTS[self.name]
        return self._numbers()

    def _numbers(self) -> list[str]:
        now = float(self.setting)
        assert self.least is not None
        assert self.most is not None
        wanted = [2 * now + 1, now / 2, *([20.0] if self.unit == "ms" else [])]
        if self.name == "extra_float_digits":
            wanted = [-15.0, 0.0, 3.0]
        form = int if self.vartype == "integer" else float
        bounded = [str(form(min(max(n, self.least), self.most))) for n in wanted]
        return [n for n in dict.fromkeys(bounded) if n != self.setting]


# A session begins with the others, and a database cannot say how.
FOR_DATABASES = frozenset({"user", "superuser"})
BY_USERS = frozenset({"user", "backend"})


def settable(dsn: str, contexts: frozenset[str] = FOR_DATABASES) -> list[Settable]:
    """What can be set on this server, of these contexts."""
    with psycopg.connect(dsn, client_encoding="utf8") as connection:
        connection.execute("load 'plpgsql'")
        found = [Settable(*row) for row in connection.execute(SETTABLE)]
    return [s for s in found if s.context in contexts and s.name not in LEFT_OUT]


def rounds(settings: Sequence[Settable]) -> Iterator[Values]:
    """Each value of each setting once, as many settings at once as there are."""
    together = (s for s in settings if s.name not in ALONE)
    for row in zip_longest(*([(s.name, v) for v in s.others()] for s in together)):
        yield dict(filter(None, row))
    for alone in (s for s in settings if s.name in ALONE):
        yield from ({alone.name: value} for value in alone.others())


@contextmanager
def by_database(database: str, values: Values) -> Iterator[None]:
    """Set them for a database, from a session that has none of them."""
    name = Identifier(conninfo_to_dict(database)["dbname"])
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("load 'plpgsql'")  # which makes its settings known
        for setting, value in values.items():
            statement = SQL("alter database {} set {} = {}")
            connection.execute(statement.format(name, named(setting), written(setting, value)))
    yield


def named(setting: str) -> Composable:
    """A setting's name, which may have a prefix."""
    return SQL(".").join(map(Identifier, setting.split(".")))


def written(setting: str, value: str) -> Composable:
    """A value, or those of a list."""
    if setting == "search_path" and value:
        return SQL(", ").join(map(Identifier, value.split(", ")))
    return Literal(value)


@contextmanager
def by_environment(_: str, values: Values) -> Iterator[None]:
    """Set them where the environment is meant for somebody else."""
    options = (f"-c {name}={escaped(value)}" for name, value in values.items())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGOPTIONS", " ".join(options))
        patch.setenv("PGDATESTYLE", "German")
        patch.setenv("PGTZ", "Asia/Tokyo")
        patch.setenv("PGGEQO", "off")
        patch.setenv("PGCLIENTENCODING", "LATIN1")
        yield


def escaped(value: str) -> str:
    """A value as libpq's options take it."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def culprits(dsn: str, values: Values, way: Way = by_database) -> dict[str, str]:
    """Those of these values with which something fails, each by itself, and how."""
    try:
        try_out(dsn, values, way)
    except Exception as error:  # noqa: BLE001  whatever it is, the setting is to blame
        if len(values) == 1:
            return {f"{name} = {value}": repr(error) for name, value in values.items()}
        items, half = list(values.items()), len(values) // 2
        parts = dict(items[:half]), dict(items[half:])
        found = culprits(dsn, parts[0], way) | culprits(dsn, parts[1], way)
        return found or {f"together {values}": repr(error)}
    return {}


def try_out(dsn: str, values: Values, way: Way) -> None:
    """Do all there is to do in a new database whose sessions begin with these values."""
    with new_database(dsn) as database:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(HOSTILE)
        with way(database, values):
            trio.run(migrate_twice, database)
            trio.run(complete_runs, database)
            look(database)


async def migrate_twice(database: str) -> None:
    """Migrate, and again at the same time."""

    async def once() -> None:
        async with await Connection.connect(database) as connection:
            await migrate(connection)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(once)
            nursery.start_soon(once)


async def complete_runs(database: str) -> None:
    """A step that fails once, a blob, a list with a gap, and somebody who waits."""
    strange = {"none": [None, 0.1, 1e-300], "text": "NULL \\ ' \u20ac"}
    flow = Flow("flow", max_attempts=2, base_delay=0, timeout=30)
    failed = []

    @flow.step(flow.input)
    async def page(times: int) -> str:
        if not failed:
            failed.append(times)
            raise ValueError("not yet: 'a\\b' and \"c\"")
        return PAGE * times

    @flow.step(page)
    async def length(page: str) -> dict[str, object]:
        return strange | {"length": len(page)}

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery, connect(database) as client:
            await nursery.start(Worker([flow], database).run)
            run = await client.start("flow", 2)
            assert await run.result() == {"length": strange | {"length": 2 * len(PAGE)}}
            assert failed == [2]
            nursery.cancel_scope.cancel()


def look(database: str) -> None:
    """What people type."""
    (run,) = command(database, "runs")
    assert run["status"] == "completed"
    command(database, "show", run["run_id"])
    findings = command(database, "doctor")["checks"]
    assert {finding["status"] for finding in findings} <= {"ok", "warning"}
    command(database, "blob", "stat")
    command(database, "blob", "check")
    command(database, "prune", "--older-than", "0.001s", "--dry-run")
    assert command(database, "prune", "--older-than", "0.001s")["runs"] == 1
    assert command(database, "blob", "check")["blobs"] == 0


def command(database: str, *arguments: str):
    """What a command answers."""
    result = CliRunner().invoke(commands, [*arguments, "--json", "--dsn", database])
    assert result.exit_code == 0, (arguments, result.output, result.exception)
    return json.loads(result.stdout)
