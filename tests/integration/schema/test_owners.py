"""What another role has made in schemas of our names never runs with the rights of a superuser."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from pgflow_events.errors import MigrationError
from pgflow_events.schema.migrations import migrate_now

from ...parts.servers.logins import (
    VERSIONS,
    execute,
    guarded_database,
    login,
    owned_database,
    server_with_logins,
)
from ...parts.servers.own_server import OwnServer

RISE = """
create function {schema}.rise() returns trigger language plpgsql as
$$ begin alter role mallory superuser; return new; end $$;
create function {schema}.risen() returns integer language plpgsql as
$$ begin alter role mallory superuser; return 1; end $$;
"""
TRIGGER = """
create trigger rise before insert on {table} for each row execute function {schema}.rise();
"""
RECORD = "(path text primary key, checksum text not null, applied_at timestamptz default now())"
TRAPS = {
    "a trigger on the record": "create schema pgflow;"
    + RISE.format(schema="pgflow")
    + f"create table pgflow.schema_files {RECORD};"
    + TRIGGER.format(table="pgflow.schema_files", schema="pgflow"),
    "a view in place of the record": "create schema pgflow;"
    + RISE.format(schema="pgflow")
    + "create view pgflow.schema_files as"
    " select 'a' as path, 'b' as checksum, pgflow.risen() as applied_at;",
    "an empty schema": "create schema pgflow",
    "the schema of the functions of queues": "create schema pgflow_queues",
    "a trigger in pgmq": "create schema pgmq;"
    + RISE.format(schema="pgmq")
    + "create table pgmq.meta (queue_name text, is_partitioned bool, is_unlogged bool);"
    + TRIGGER.format(table="pgmq.meta", schema="pgmq"),
}


@pytest.fixture(scope="module", params=VERSIONS)
def server(request: pytest.FixtureRequest) -> Iterator[OwnServer]:
    with server_with_logins(request.param) as server:
        execute(server.dsn, "create role mallory login")
        yield server


@pytest.mark.parametrize("trap", TRAPS)
def test_a_superuser_runs_nothing_that_another_role_has_put_into_our_schemas(server, trap):
    with owned_database(server) as dsn:
        admin = login(dsn, "postgres")
        name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
        execute(admin, f"grant create on database {name} to mallory")
        execute(login(dsn, "mallory"), TRAPS[trap])
        with pytest.raises(MigrationError):
            migrate_now(admin)
        assert execute(admin, "select from pg_roles where rolname = 'mallory' and rolsuper") == []


def test_an_owner_uses_no_pgmq_that_a_neighbour_has_made(server):
    (package,) = find_spec("pgmq").submodule_search_locations
    with owned_database(server) as dsn:
        admin, mallory = login(dsn, "postgres"), login(dsn, "mallory")
        name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
        execute(admin, f"grant create on database {name} to mallory")
        execute(mallory, "create schema pgmq")
        execute(mallory, (Path(package) / "sql/pgmq.sql").read_text())
        execute(mallory, "grant all on schema pgmq to olga; grant all on pgmq.meta to olga")
        with pytest.raises(MigrationError, match="the schema pgmq belongs to the role mallory"):
            migrate_now(dsn)
        execute(admin, "grant olga to mallory")  # who may do all that olga may
        try:
            assert migrate_now(dsn) != []
        finally:
            execute(admin, "revoke olga from mallory")


@pytest.mark.parametrize("user", ["postgres", "olga"])
def test_a_thing_of_another_role_among_ours_is_named_with_its_owner(server, user):
    with guarded_database(server) as dsn:
        if user == "postgres":
            execute(login(dsn, user), "reassign owned by olga to postgres")
        execute(
            login(dsn, "postgres"),
            "create function pgflow.mine() returns void language sql as ''",
        )
        execute(login(dsn, "postgres"), "alter function pgflow.mine owner to mallory")
        with pytest.raises(
            MigrationError, match=r"function pgflow\.mine\(\) belongs to the role mallory"
        ):
            migrate_now(login(dsn, user))


def test_a_superuser_migrates_what_belongs_to_another_role_as_that_role(server):
    with guarded_database(server) as dsn:
        admin = login(dsn, "postgres")
        with pytest.raises(MigrationError, match="connect as olga"):
            migrate_now(admin)
        migrate_now(psycopg.conninfo.make_conninfo(admin, options="-c role=olga"))


def test_a_member_of_the_owner_migrates(server):
    with guarded_database(server) as dsn:
        name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
        admin = login(dsn, "postgres")
        execute(admin, "create role olivia login in role olga")
        try:
            execute(admin, f"grant create on database {name} to olivia")
            migrate_now(login(dsn, "olivia"))
        finally:
            execute(admin, "drop owned by olivia; drop role olivia")


def test_one_superuser_migrates_what_another_one_made(server):
    with owned_database(server) as dsn:
        admin = login(dsn, "postgres")
        migrate_now(admin)
        execute(admin, "create role second login superuser")
        try:
            migrate_now(login(dsn, "second"))
        finally:
            execute(
                admin,
                "reassign owned by second to postgres; drop owned by second; drop role second",
            )
