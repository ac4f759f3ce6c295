"""An embedded server does not obey an environment that is meant for another."""

import os
import stat
import time

import psycopg
import pytest
import trio
from click.testing import CliRunner
from psycopg import pq

from pgflow_events import EmbeddedServer, Flow, Worker, connect
from pgflow_events.cli import commands
from pgflow_events.errors import EmbeddedError
from pgflow_events.schema.migrations import migrate_now
from pgflow_events.settings import LIBPQ_VARIABLES, dsn_from_environment

TIMEOUT = 5  # seconds; a refusal would be repeated for 30
# What each of libpq's variables can be set to that is right elsewhere, and wrong here.
HOSTILE = {
    "PGAPPNAME": "theirs",
    "PGCHANNELBINDING": "require",
    "PGCLIENTENCODING": "SJIS",
    "PGCONNECT_TIMEOUT": "0",
    "PGDATABASE": "theirs",
    "PGGSSDELEGATION": "1",
    "PGGSSENCMODE": "require",
    "PGGSSLIB": "gssapi",
    "PGHOST": "db.invalid",
    "PGHOSTADDR": "192.0.2.1",
    "PGKRBSRVNAME": "theirs",
    "PGLOADBALANCEHOSTS": "random",
    "PGMAXPROTOCOLVERSION": "3.2",
    "PGMINPROTOCOLVERSION": "3.2",
    "PGOPTIONS": "-c default_transaction_read_only=on -c search_path=theirs",
    "PGPASSFILE": "/nonexistent/theirs",
    "PGPASSWORD": "theirs",
    "PGPORT": "6432",
    "PGREQUIREAUTH": "scram-sha-256",
    "PGREQUIREPEER": "theirs",
    "PGSERVICE": "theirs",
    "PGSERVICEFILE": "/nonexistent/theirs",
    "PGSSLCERT": "/nonexistent/theirs",
    "PGSSLCERTMODE": "require",
    "PGSSLCOMPRESSION": "1",
    "PGSSLCRL": "/nonexistent/theirs",
    "PGSSLCRLDIR": "/nonexistent/theirs",
    "PGSSLKEY": "/nonexistent/theirs",
    "PGSSLMAXPROTOCOLVERSION": "TLSv1.1",
    "PGSSLMINPROTOCOLVERSION": "TLSv1.3",
    "PGSSLMODE": "verify-full",
    "PGSSLNEGOTIATION": "direct",
    "PGSSLROOTCERT": "system",
    "PGSSLSNI": "0",
    "PGTARGETSESSIONATTRS": "standby",
    "PGUSER": "theirs",
}
# What libpq, the server, its programs and the system take from the environment besides.
OTHERS = {
    "PGDATA": "/nonexistent/theirs",
    "PGDATESTYLE": "SQL, DMY",
    "PGGEQO": "off",
    "PGLOCALEDIR": "/nonexistent/theirs",
    "PGSYSCONFDIR": "/nonexistent/theirs",
    "PGTZ": "Pacific/Chatham",
    "LANG": "tr_TR.UTF-8",
    "LC_ALL": "theirs",
    "TZ": "Pacific/Chatham",
    "KRB5CCNAME": "/nonexistent/theirs",
    "PGFLOW_DSN": "",
    "PGFLOW_LISTEN_DSN": "",
    "CREDENTIALS_DIRECTORY": "",
}
VARIABLES = HOSTILE | OTHERS

flow = Flow("environment", timeout=30)


@flow.step(flow.input)
async def echo(text: str) -> str:
    return text


@pytest.fixture(scope="module")
def running(made):
    """A server that is there while the environment changes."""
    with EmbeddedServer(made) as server:
        migrate_now(server.dsn)
        yield server


@pytest.fixture
def environment(made, monkeypatch):
    """An environment in which the embedded server is chosen."""
    for name in [*os.environ]:
        if name.startswith(("PG", "LC_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PGFLOW_PG_FOLDER", str(made))
    return monkeypatch


async def a_run_is_completed(dsn: str) -> None:
    with trio.fail_after(TIMEOUT):
        async with trio.open_nursery() as nursery, connect(dsn) as client:
            worker = Worker([flow], dsn)
            await nursery.start(worker.run)
            run = await client.start(flow, "said")
            assert await run.output(echo) == "said"
            worker.stop()


def call(*arguments: str) -> str:
    """What a command prints."""
    result = CliRunner().invoke(commands, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_libpq_has_no_variable_that_is_not_tried_here():
    """HOSTILE wants a value for each."""
    known = {o.envvar.decode() for o in pq.Conninfo.get_defaults() if o.envvar}
    assert known <= HOSTILE.keys()


@pytest.mark.parametrize("variable", sorted(VARIABLES.keys() - {*LIBPQ_VARIABLES}))
def test_a_variable_that_is_meant_for_another_server_changes_nothing(
    running, environment, variable
):
    environment.setenv(variable, VARIABLES[variable])
    with EmbeddedServer(timeout=TIMEOUT) as server:
        assert server.pid == running.pid
        psycopg.connect(server.dsn).close()
        trio.run(a_run_is_completed, server.dsn)
    assert "environment" in call("runs")


@pytest.mark.parametrize("variable", LIBPQ_VARIABLES)
def test_a_variable_that_names_another_server_is_heeded_by_commands_alone(
    running, made, environment, tmp_path, variable
):
    services = tmp_path / "services"
    services.write_text("[theirs]\nhost=db.invalid\ndbname=theirs\nsslmode=verify-full\nuser=x\n")
    environment.setenv("PGSERVICEFILE", str(services))
    environment.setenv(variable, HOSTILE[variable])
    assert dsn_from_environment() == ""
    with EmbeddedServer(made, timeout=TIMEOUT) as server:
        assert server.pid == running.pid
        trio.run(a_run_is_completed, server.dsn)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("PGTZ", "theirs"), ("PGDATESTYLE", "theirs"), ("PGGEQO", "theirs"), ("PGSERVICE", "theirs")],
)
def test_what_libpq_heeds_whatever_a_dsn_says_is_named_at_once(
    running, made, environment, variable, value
):
    environment.setenv("PGSERVICEFILE", "/nonexistent/theirs")
    environment.setenv(variable, value)
    began = time.monotonic()
    with pytest.raises(EmbeddedError, match=r"theirs|geqo"):
        EmbeddedServer(made).start()
    assert time.monotonic() - began < TIMEOUT


def test_all_of_them_together_change_nothing(fresh, environment):
    for variable, value in VARIABLES.items():
        if variable not in LIBPQ_VARIABLES:
            environment.setenv(variable, value)
    environment.setenv("PGFLOW_PG_FOLDER", str(fresh))
    assert "the database is at this release" in call("migrate")
    with EmbeddedServer() as server:
        trio.run(a_run_is_completed, server.dsn)


def test_a_file_of_passwords_is_not_read(running, made, environment, tmp_path, capfd):
    passwords = tmp_path / ".pgpass"
    passwords.write_text("*:*:*:*:theirs\n")
    passwords.chmod(stat.S_IRUSR | stat.S_IROTH)  # libpq would complain of it
    environment.setenv("HOME", str(tmp_path))
    environment.setenv("PGPASSFILE", str(passwords))
    with EmbeddedServer(made) as server, psycopg.connect(server.dsn) as connection:
        assert connection.info.password == ""
    assert capfd.readouterr().err == ""


def test_where_to_listen_without_where_the_database_is_is_refused(running, environment):
    environment.setenv("PGFLOW_LISTEN_DSN", "host=db.invalid")
    result = CliRunner().invoke(commands, ["start", "environment"])
    assert (result.exit_code, "give --dsn or PGFLOW_DSN too" in result.output) == (1, True)
