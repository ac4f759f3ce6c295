"""Those who have few rights, and those to whom pgmq does not belong."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import trio
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from pgflow_events import Flow, Worker, connect
from pgflow_events.cli.doctor.checks import Finding, examine
from pgflow_events.errors import MigrationError
from pgflow_events.schema.migrations import migrate_now

from ...parts.servers.logins import execute, login, owned_database, server_with_logins
from ...parts.servers.own_server import OwnServer

# Anything that a right to pgmq is not needed for is the owner's own.
GRANTS = [
    "grant usage on schema pgmq to olga",
    "grant create on schema pgmq to olga",
    "grant insert on pgmq.meta to olga",
    "grant select on pgmq.meta to olga",
    "grant execute on all functions in schema pgmq to olga",
]
ROLE_GRANTS = [
    "grant usage on schema pgmq to pgflow_observer",
    "grant usage on schema pgmq to pgflow_worker",
    "grant execute on all functions in schema pgmq to pgflow_worker",
]
REVOKE = "revoke all on all functions in schema pgmq from public"


@pytest.fixture(scope="module")
def logins() -> Iterator[OwnServer]:
    with server_with_logins() as server:
        yield server


@pytest.fixture
def owned(logins: OwnServer) -> Iterator[str]:
    """An empty database of olga's."""
    with owned_database(logins) as dsn:
        yield dsn


@pytest.fixture
def foreign(logins: OwnServer, owned: str) -> str:
    """The same with a pgmq of the superuser's, who has closed it."""
    (package,) = find_spec("pgmq").submodule_search_locations
    admin = login(owned, "postgres")
    execute(admin, "create schema pgmq")
    execute(admin, (Path(package) / "sql/pgmq.sql").read_text())
    execute(admin, REVOKE)
    return owned


async def complete_one(dsn: str, worker: str) -> None:
    flow = Flow("flow")

    @flow.step(flow.input)
    async def same(value: int) -> int:
        return value

    async with trio.open_nursery() as nursery, connect(dsn) as client:
        await nursery.start(Worker([flow], login(dsn, worker)).run)
        with trio.fail_after(20):
            assert await (await client.start(flow, 7)).result() == {"same": 7}
        nursery.cancel_scope.cancel()


def found(dsn: str) -> Finding:
    findings = trio.run(examine, dsn, dsn)
    return next(finding for finding in findings if finding.check == "pgmq")


def refusal(dsn: str, *, roles: bool = False) -> str:
    with pytest.raises(MigrationError) as caught:
        migrate_now(dsn, roles=roles)
    return str(caught.value)


def revoke_create(dsn: str) -> str:
    """Take the right to make schemas from olga, who owns no database then; yields its name."""
    database = conninfo_to_dict(dsn)["dbname"]
    admin, name = login(dsn, "postgres"), Identifier(database)
    execute(admin, SQL("alter database {} owner to postgres").format(name))
    execute(admin, SQL("revoke create on database {} from olga, public").format(name))
    return database


def test_a_role_that_may_make_no_schema_is_told_what_to_ask_for(owned):
    database = revoke_create(owned)
    with pytest.raises(MigrationError) as refused:
        migrate_now(owned)
    (grant,) = re.findall("`(.*)`", str(refused.value))
    assert grant == f"grant create on database {database} to olga"
    execute(login(owned, "postgres"), grant)
    assert migrate_now(owned) != []


def test_once_its_schemas_are_there_their_owner_need_make_none(owned):
    migrate_now(owned)
    revoke_create(owned)
    assert migrate_now(owned) == []


def test_a_role_without_the_right_to_temporary_tables_can_migrate(logins, owned):
    name = Identifier(conninfo_to_dict(owned)["dbname"])
    admin = login(owned, "postgres")
    execute(admin, SQL("revoke temporary on database {} from public, olga").format(name))
    execute(admin, SQL("alter database {} owner to postgres").format(name))
    execute(admin, SQL("grant create, connect on database {} to paul").format(name))
    (may,) = execute(
        login(owned, "paul"), "select has_database_privilege(current_database(), 'temp')"
    )
    assert may == (False,)
    migrate_now(login(owned, "paul"))
    trio.run(complete_one, login(owned, "paul"), "paul")


def test_a_pgmq_of_somebody_else_is_used_once_all_that_migrate_asks_for_is_granted(foreign):
    assert refusal(foreign) == f"pgmq belongs to postgres, who must run: {'; '.join(GRANTS)}"
    asked = refusal(foreign).partition("run: ")[2]
    execute(login(foreign, "postgres"), asked)
    migrate_now(foreign)
    trio.run(complete_one, foreign, "olga")
    assert found(foreign).status == "ok"


@pytest.mark.parametrize("missing", GRANTS)
def test_each_grant_that_is_missing_is_named_alone(foreign, missing):
    execute(login(foreign, "postgres"), "; ".join(g for g in GRANTS if g != missing))
    assert refusal(foreign) == f"pgmq belongs to postgres, who must run: {missing}"


def test_what_the_roles_need_of_it_is_asked_for_where_it_cannot_be_granted(foreign):
    admin = login(foreign, "postgres")
    execute(admin, "; ".join(GRANTS))
    wanted = f"pgmq belongs to postgres, who must run: {'; '.join(ROLE_GRANTS)}"
    assert refusal(foreign, roles=True) == wanted
    execute(admin, "; ".join(ROLE_GRANTS))
    migrate_now(foreign, roles=True)
    trio.run(complete_one, foreign, "wanda")
    execute(admin, ROLE_GRANTS[1].replace("grant", "revoke").replace(" to ", " from "))
    assert found(foreign) == Finding(
        "pgmq", "failed", f"pgmq belongs to postgres, who must run: {ROLE_GRANTS[1]}"
    )


def test_doctor_names_the_right_that_was_taken_away(foreign):
    admin = login(foreign, "postgres")
    execute(admin, "; ".join(GRANTS))
    migrate_now(foreign)
    execute(admin, "revoke insert on pgmq.meta from olga")
    assert found(foreign) == Finding(
        "pgmq", "failed", f"pgmq belongs to postgres, who must run: {GRANTS[2]}"
    )


def test_functions_that_nobody_else_may_call_by_default_are_granted_to_workers(owned):
    execute(owned, "alter default privileges revoke execute on functions from public")
    try:
        migrate_now(owned, roles=True)
        trio.run(complete_one, owned, "wanda")
        assert found(owned).status == "ok"
    finally:
        execute(owned, "alter default privileges grant execute on functions to public")
