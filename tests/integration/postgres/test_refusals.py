"""Servers and poolers that will not have us, in whatever words."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import psycopg
import pytest
import trio
from psycopg.conninfo import make_conninfo

from pgflow_events import Worker
from pgflow_events.postgres import refusals
from pgflow_events.postgres.calls import Calls
from pgflow_events.postgres.pool import Pool
from pgflow_events.postgres.refusals import REFUSAL

from ...parts.load import Load
from ...parts.observing import logged

# As other poolers than PgBouncer, which tests/faults tries, say it.
OTHER_POOLERS = [
    'FATAL:  No pool configured for database: "nope", user: "app"',
    "FATAL:  Tenant or user not found",
    "ERROR:  odyssey: c1: route for 'nope.app' is not found",
    "FATAL:  This RDS proxy has no credentials for the role app",
]
# What asks for something that this server has not, or means nothing.
ENVIRONMENTS = [
    {"PGSSLMODE": "require"},
    {"PGSSLMODE": "rubbish"},
    {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/nowhere"},
    {"PGCHANNELBINDING": "require"},
    {"PGCHANNELBINDING": "rubbish"},
    {"PGREQUIREAUTH": "scram-sha-256"},
    {"PGREQUIREAUTH": "rubbish"},
    {"PGGSSENCMODE": "require"},
    {"PGGSSENCMODE": "rubbish"},
    {"PGTARGETSESSIONATTRS": "rubbish"},
    {"PGLOADBALANCEHOSTS": "rubbish"},
    {"PGSSLNEGOTIATION": "rubbish"},
    {"PGMINPROTOCOLVERSION": "rubbish"},
    {"PGSSLMINPROTOCOLVERSION": "rubbish"},
    {"PGSSLNEGOTIATION": "direct"},
    {"PGSSLCERTMODE": "require"},
    {"PGREQUIREAUTH": "password,password"},
    {"PGREQUIREAUTH": "password,!gss"},
    {"PGHOSTADDR": "127.0.0.1,127.0.0.1"},
    {"PGSERVICE": "rubbish"},
    {"PGSERVICE": "rubbish", "PGSERVICEFILE": "/nowhere"},
    {"PGDATESTYLE": "rubbish"},
    {"PGTZ": "rubbish"},
    {"PGGEQO": "rubbish"},
    {"PGOPTIONS": "-c rubbish=1"},
    {"PGOPTIONS": "-c datestyle=rubbish"},
]


@pytest.mark.parametrize("words", OTHER_POOLERS)
def test_a_refusal_of_another_pooler_is_final(words):
    assert REFUSAL.search(words)


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=str)
async def test_an_environment_that_can_never_connect_ends_the_start(dsn, monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with trio.fail_after(10), pytest.raises(psycopg.Error):
        await Worker([Load("flow", 1).flow], make_conninfo(dsn, host="127.0.0.1")).run()


@pytest.mark.parametrize(
    "given",
    [
        {"requirepeer": "nobody"},
        {"replication": "database"},
        {"host": "/" + 200 * "x"},
        {"host": "127.0.0.1", "port": "1,2"},
        {"host": "127.0.0.1", "sslmode": "prefer", "sslrootcert": "system"},
    ],
    ids=str,
)
async def test_a_dsn_that_can_never_connect_ends_the_start(dsn, given):
    with trio.fail_after(10), pytest.raises(psycopg.Error):
        await Worker([Load("flow", 1).flow], make_conninfo(dsn, **given)).run()


@asynccontextmanager
async def refusing(code: str, words: str) -> AsyncIterator[str]:
    """A server that says this to everybody; yields its dsn."""
    fields = f"SFATAL\0VFATAL\0C{code}\0M{words}\0\0".encode()
    answer = b"E" + (len(fields) + 4).to_bytes(4) + fields

    async def refuse(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, refuse, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        yield f"host=127.0.0.1 port={port} sslmode=disable gssencmode=disable"
        nursery.cancel_scope.cancel()


async def ask(dsn: str) -> None:
    async with Pool(dsn) as pool:
        await Calls(pool, 5).make(lambda connection: connection.execute("select 1"))


GERMAN = "Passwort-Authentifizierung für Benutzer »app« fehlgeschlagen"


async def test_a_refusal_in_another_language_is_final_after_a_while(monkeypatch, caplog):
    monkeypatch.setattr(refusals, "UNKNOWN_LIMIT", 0.2)
    async with refusing("28P01", GERMAN) as dsn:
        with trio.fail_after(10), pytest.raises(psycopg.OperationalError, match=GERMAN):
            await ask(dsn)
    assert GERMAN in caplog.text  # it was tried again before


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("57P03", "the database system is starting up"),
        ("53300", "sorry, too many clients already"),
        ("28P01", GERMAN),  # within the while
    ],
)
async def test_what_may_pass_is_waited_for(monkeypatch, caplog, code, words):
    monkeypatch.setattr(refusals, "UNKNOWN_LIMIT", 60 if words == GERMAN else 0)
    async with refusing(code, words) as dsn, trio.open_nursery() as nursery:
        nursery.start_soon(ask, dsn)
        await logged(caplog, words)
        caplog.clear()
        await logged(caplog, words)
        nursery.cancel_scope.cancel()


async def test_a_server_that_is_not_there_is_waited_for_however_long(monkeypatch, caplog):
    monkeypatch.setattr(refusals, "UNKNOWN_LIMIT", 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, "host=127.0.0.1 port=1")
        await logged(caplog, "refused")
        caplog.clear()
        await logged(caplog, "refused")
        nursery.cancel_scope.cancel()
