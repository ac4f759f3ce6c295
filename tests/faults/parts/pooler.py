"""PgBouncer before a server, as Debian installs it."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ...parts.servers.own_server import account, free_port
from ..conftest import missing

PROGRAM = "/usr/sbin/pgbouncer"
START_TIMEOUT = 20.0
# It lends a session of the server for a transaction, or for as long as its client stays.
TRANSACTIONS = """
pool_mode = transaction
default_pool_size = 5
"""
SESSIONS = "pool_mode = session"
SETTINGS = """
[databases]
{databases} = host={host} port={port} user={user}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
unix_socket_dir =
auth_type = any
auth_file = {folder}/users
logfile = {folder}/log
{settings}
"""


@contextmanager
def pooler(dsn: str, settings: str = TRANSACTIONS, *, password: str | None = None) -> Iterator[str]:
    """Run PgBouncer for the block; yields the dsn of the same database behind it.

    With a *password* it knows this one database only, and one user.
    """
    if not Path(PROGRAM).exists():
        missing("pgbouncer")
    folder = Path(tempfile.mkdtemp(prefix="pgflow_pooler_"))
    given, own = conninfo_to_dict(dsn), free_port()
    ini = folder / "ini"
    ini.write_text(
        SETTINGS.format(
            databases=given["dbname"] if password else "*",
            host=given["host"],
            port=given.get("port", 5432),
            user=given["user"],
            own=own,
            folder=folder,
            settings=settings,
        )
    )
    (folder / "users").write_text(f'"{given["user"]}" "{password}"')
    if user := account():
        shutil.chown(folder, user)
    process = subprocess.Popen(
        [PROGRAM, "--quiet", ini], user=user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    pooled = make_conninfo(
        "",
        host="127.0.0.1",
        port=own,
        user=given["user"],
        dbname=given["dbname"],
        password=password,
        sslmode="disable",
        gssencmode="disable",
    )
    try:
        until_it_answers(pooled, process, folder / "log")
        yield pooled
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


def until_it_answers(dsn: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Return when it lets clients in."""
    deadline = time.monotonic() + START_TIMEOUT
    while pq.PGconn.ping(dsn.encode()) != pq.Ping.OK:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(log.read_text())
        time.sleep(0.01)
    psycopg.connect(dsn).close()
