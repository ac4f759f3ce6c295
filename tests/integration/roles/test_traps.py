"""What another role has put in the way of a superuser or a database's owner never runs as them.

Whoever may CREATE in a database may make schemas: those of our names before we do, or one that is
called as the user and so comes first in the search path.
"""

from collections.abc import Iterator
from uuid import UUID

import pytest
import trio
from click.testing import CliRunner
from psycopg.conninfo import conninfo_to_dict

from pgflow_events import Flow, MigrationError, Worker, connect
from pgflow_events.cli import commands
from pgflow_events.cli.doctor import checks
from pgflow_events.postgres.connection import Connection
from pgflow_events.schema.migrations import check_schema, migrate_now

from ...parts.servers.logins import VERSIONS, execute, login, owned_database, server_with_logins
from ...parts.servers.own_server import OwnServer

RISE = """
create table {schema}.caught (by text);
grant insert on {schema}.caught to public;
grant usage on schema {schema} to public;
create function {schema}.rise() returns boolean language plpgsql as
$$ begin insert into {schema}.caught values (current_user); return true; end $$;
"""
READ = ("schema_files", "flows", "runs", "step_tasks", "output_blobs", "worker_seats")
VIEWS = "".join(
    f"alter table pgflow.{name} rename to {name}_before;"
    f"create view pgflow.{name} as select * from pgflow.{name}_before where pgflow.rise();"
    f"grant all on pgflow.{name} to public;"
    for name in READ
)
# A function whose parameters fit better comes before PostgreSQL's own.
FITTING = """
create function {schema}.format(text, name) returns text language plpgsql as
$$ begin perform {schema}.rise(); return pg_catalog.format($1, $2); end $$;
create function {schema}.format(text, text) returns text language plpgsql as
$$ begin perform {schema}.rise(); return pg_catalog.format($1, $2); end $$;
create function {schema}.unnest(text[]) returns setof text language plpgsql as
$$ begin perform {schema}.rise(); return query select pg_catalog.unnest($1); end $$;
create function {schema}.printf(text) returns text language sql return $1;
"""

ID = str(UUID(int=7))
COMMANDS = [
    ["doctor"],
    ["runs"],
    ["show", ID],
    ["start", "f", "1", "--patience", "0"],
    ["prune", "--older-than", "1h"],
    ["blob", "stat"],
    ["blob", "check"],
    ["blob", "cat", ID],
    ["blob", "export", ID, "/nowhere/at/all"],
    ["blob", "train", "f", "a"],
    ["migrate"],
]


@pytest.fixture(scope="module", params=VERSIONS)
def server(request: pytest.FixtureRequest) -> Iterator[OwnServer]:
    with server_with_logins(request.param) as server:
        execute(server.dsn, "create role mallory login")
        yield server


def may_create(dsn: str) -> str:
    """Let mallory make schemas; where she logs in."""
    name = conninfo_to_dict(dsn)["dbname"]
    execute(login(dsn, "postgres"), f"grant create on database {name} to mallory")
    return login(dsn, "mallory")


@pytest.fixture(scope="module")
def planted(server: OwnServer) -> Iterator[str]:
    """A database of olga's that mallory has migrated, and whose tables are views by now."""
    with owned_database(server) as dsn:
        mallory = may_create(dsn)
        migrate_now(mallory)
        execute(mallory, RISE.format(schema="pgflow") + VIEWS)
        yield dsn


def caught(dsn: str, schema: str) -> set[str]:
    """As whom mallory's code ran."""
    rows = execute(login(dsn, "mallory"), f"select by from {schema}.caught")
    execute(login(dsn, "mallory"), f"truncate {schema}.caught")
    return {by for (by,) in rows} - {"mallory"}


async def work(dsn: str) -> None:
    await Worker([Flow("f")], dsn).run()


async def start(dsn: str) -> None:
    async with connect(dsn) as client:
        await client.start("f", 1)


async def check(dsn: str) -> None:
    async with await Connection.connect(dsn) as connection:
        await check_schema(connection)


@pytest.mark.parametrize("user", ["postgres", "olga"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_runs_what_the_maker_of_the_schema_has_put_there(planted, user, command):
    result = CliRunner().invoke(commands, [*command, "--dsn", login(planted, user)])
    assert caught(planted, "pgflow") == set()
    assert result.exit_code == 1
    assert "belongs to the role mallory" in result.output


@pytest.mark.parametrize("user", ["postgres", "olga"])
@pytest.mark.parametrize("call", [work, start, check])
def test_no_worker_and_no_client_does(planted, user, call):
    with pytest.raises(MigrationError, match="belongs to the role mallory"):
        trio.run(call, login(planted, user))
    assert caught(planted, "pgflow") == set()


def test_the_traps_would_catch_who_does_not_look(planted):
    execute(login(planted, "wanda"), "select from pgflow.schema_files")
    assert caught(planted, "pgflow") == {"wanda"}


async def test_a_schema_that_is_made_while_the_doctor_looks_runs_nothing(server, monkeypatch):
    with owned_database(server) as dsn:
        mallory, admin = may_create(dsn), login(dsn, "postgres")

        async def plant(_: Connection) -> list[tuple[str, str]]:
            await trio.to_thread.run_sync(migrate_now, mallory)
            execute(mallory, RISE.format(schema="pgflow") + VIEWS)
            return []

        monkeypatch.setattr(checks, "server", plant)
        found = await checks.examine(admin, admin)
        assert caught(dsn, "pgflow") == set()
    assert sum("belongs to the role mallory" in finding.found for finding in found) > 3


@pytest.mark.parametrize("user", ["postgres", "olga"])
def test_a_schema_that_is_called_as_the_user_comes_before_nothing(server, user):
    with owned_database(server) as dsn:
        owner = login(dsn, user)
        migrate_now(owner)
        execute(owner, "select pgflow.create_flow('f'), pgflow.add_step('f', 'a')")
        seat = "insert into pgflow.worker_seats values (gen_random_uuid(), 0, '{f}', '', 1)"
        execute(owner, seat)
        mallory = may_create(dsn)
        execute(mallory, f"create schema {user};" + (RISE + FITTING).format(schema=user))
        for command in COMMANDS:
            CliRunner().invoke(commands, [*command, "--dsn", owner])
            assert caught(dsn, user) == set(), command
        # They would run where the search path is PostgreSQL's own.
        execute(owner, "select format('%I', relname) from pg_class limit 1")
        assert caught(dsn, user) == {user}
