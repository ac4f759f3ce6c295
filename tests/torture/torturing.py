"""One torture of the engine on a server of its own, and the proof that nothing is wrong."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import trio
from psycopg.conninfo import make_conninfo
from psycopg.rows import namedtuple_row
from rich.console import Console

from pgflow_events.schema.migrations import migrate_now
from tests.parts.models.core import Core
from tests.parts.models.windows import make_windows_small
from tests.parts.servers.disks import NoRightToMount, own_disk
from tests.parts.servers.own_server import OwnServer, own_folder, running
from tests.torture.disturbing import ROOM
from tests.torture.flows import FLOWS
from tests.torture.ordeal import Ordeal
from tests.torture.proof import HERE
from tests.torture.verdict import judge

SESSIONS, OTHERS = 20, 150  # of a worker at most, with those of the killed one before it; of others
SERVER = {
    "log_min_messages": "error",
    "log_line_prefix": "%m [%p] %e ",  # with the SQLSTATE
    "deadlock_timeout": "200ms",
    "max_wal_size": "4GB",
}

say = Console(highlight=False, width=120).print


def survives(seed: int, seconds: float, workers: int, *, keep: bool) -> bool:
    """Torture it with one seed; whether nothing is wrong."""
    say(f"seed {seed}: {seconds:g} seconds, {workers} workers, {len(FLOWS)} flows")
    folder = Path(tempfile.mkdtemp(prefix="pgflow_torture_"))
    with server_on_own_disk(workers) as server:
        dsn = prepare(server)
        ordeal = Ordeal(seed, seconds, server, dsn, workers=workers, folder=folder, say=say)
        trio.run(ordeal.endure)
        verdict = judge(ordeal)
        shutil.copy(server.folder / "log", folder / "server.log")
    say(verdict.table)
    for violation in verdict.violations:
        say(f"VIOLATED: {violation}", markup=False)
    if keep or verdict.violations:
        say(f"the journals and logs are in {folder}")
    else:
        shutil.rmtree(folder)
    return not verdict.violations


@contextmanager
def server_on_own_disk(workers: int) -> Iterator[OwnServer]:
    """A server whose tables are on a disk that may be made full, where we may mount one."""
    with ExitStack() as stack:
        folder = stack.enter_context(own_folder())
        try:
            stack.enter_context(own_disk(folder / "data", ROOM))
        except NoRightToMount as error:
            say(f"the disk will not be full, which takes the right to mount: {error}")
        sessions = OTHERS + SESSIONS * workers
        server = OwnServer(folder, settings={**SERVER, "max_connections": str(sessions)})
        # A server that cannot write its log ends: that is a crash, of which there are others.
        server.create(f"--waldir={folder / 'wal'}")
        yield stack.enter_context(running(server))


def prepare(server: OwnServer) -> str:
    """Make the database; its DSN."""
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute("create database torture encoding 'UTF8' template template0")
    dsn = make_conninfo(server.dsn, dbname="torture")
    migrate_now(dsn)
    with psycopg.connect(dsn, row_factory=namedtuple_row) as connection:
        connection.execute((HERE / "schema.sql").read_text().encode())
        make_windows_small(Core(connection))  # until the first `migrate` among the faults
    return dsn
