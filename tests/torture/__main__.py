"""Torture the engine for so many seconds, and prove that nothing is wrong; 1 if something is."""

import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from secrets import randbelow

import click
import psycopg
import trio
from psycopg.conninfo import make_conninfo
from rich.console import Console

from pgflow_events.schema.migrations import migrate_now
from tests.parts.servers.disks import NoRightToMount, own_disk
from tests.parts.servers.own_server import OwnServer, own_folder, running
from tests.torture.disturbing import ROOM
from tests.torture.ordeal import Ordeal
from tests.torture.proof import HERE
from tests.torture.verdict import judge

SERVER = {
    "max_connections": "250",
    "log_min_messages": "error",
    "log_line_prefix": "%m [%p] %e ",  # with the SQLSTATE
    "deadlock_timeout": "200ms",
    "max_wal_size": "4GB",
}

say = Console(highlight=False, width=120).print


@click.command()
@click.option("--seconds", type=float, default=600, help="How long things go wrong.")
@click.option("--seed", "seeds", type=int, multiple=True, help="By default one by chance.")
@click.option("--keep", is_flag=True, help="Keep the journals and logs in any case.")
def main(*, seconds: float, seeds: Sequence[int], keep: bool) -> None:
    """Torture the engine, with one seed after the other."""
    for name in ("pgflow_events", "psycopg"):
        logging.getLogger(name).setLevel(logging.ERROR)  # connections are meant to break
    failed = [
        seed for seed in seeds or [randbelow(10**6)] if not survives(seed, seconds, keep=keep)
    ]
    if failed:
        sys.exit(f"something is wrong, with seed {', '.join(map(str, failed))}")


def survives(seed: int, seconds: float, *, keep: bool) -> bool:
    """Torture it with one seed; whether nothing is wrong."""
    say(f"seed {seed}: {seconds:g} seconds")
    folder = Path(tempfile.mkdtemp(prefix="pgflow_torture_"))
    with server_on_own_disk() as server:
        ordeal = Ordeal(seed, seconds, server, prepare(server), folder=folder, say=say)
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
def server_on_own_disk() -> Iterator[OwnServer]:
    """A server whose tables are on a disk that may be made full, where we may mount one."""
    with ExitStack() as stack:
        folder = stack.enter_context(own_folder())
        try:
            stack.enter_context(own_disk(folder / "data", ROOM))
        except NoRightToMount as error:
            say(f"the disk will not be full, which takes the right to mount: {error}")
        server = OwnServer(folder, settings=SERVER)
        # A server that cannot write its log ends: that is a crash, of which there are others.
        server.create(f"--waldir={folder / 'wal'}")
        yield stack.enter_context(running(server))


def prepare(server: OwnServer) -> str:
    """Make the database; its DSN."""
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute("create database torture encoding 'UTF8' template template0")
    dsn = make_conninfo(server.dsn, dbname="torture")
    migrate_now(dsn)
    with psycopg.connect(dsn) as connection:
        connection.execute((HERE / "schema.sql").read_text().encode())
    return dsn


if __name__ == "__main__":
    main()
