"""Faults of the server and of the way to it, other than that they end."""

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import trio

from pgflow_events.errors import PgflowError
from pgflow_events.postgres.calls import Calls
from pgflow_events.postgres.connection import Connection
from pgflow_events.schema.migrations import migrate_now
from tests.parts.servers.disks import resize, used
from tests.parts.servers.proxy import Proxy
from tests.torture.commands import command
from tests.torture.crew import Crew, processes
from tests.torture.plan import Fault

TABLES = (
    "pgflow.runs",
    "pgflow.step_states",
    "pgflow.step_tasks",
    "pgflow.map_elements",
    "pgflow.worker_seats",
    "pgflow.output_blobs",
    "pgmq.q_torture_fan",
    "pgmq.a_torture_fan",
)
BACKEND = """
select pid from pg_stat_activity
where
  datname = current_database() and backend_type = 'client backend' and application_name <> %s
order by pid offset (
  select floor(%s * count(*)) from pg_stat_activity
  where datname = current_database() and backend_type = 'client backend' and application_name <> %s
) limit 1
"""
LISTENERS = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and query like '%%take_seat%%' and pid <> pg_backend_pid()
"""
ROOM = "75%"  # of the memory: the disk of the tables, when it is not full


class NoDisk(Exception):
    """The tables are not on a disk of their own."""


# The server may be gone meanwhile.
LOST = (psycopg.Error, PgflowError, trio.TooSlowError, ProcessLookupError, NoDisk)
COMMANDS = {"prune": ("prune", "--older-than", "1h"), "blob check": ("blob", "check")}


class Way(Proxy):
    """A way to the server that fails: it cuts, delays, tears and swallows what is said."""

    async def _serve(self, client: trio.SocketStream) -> None:
        try:
            await super()._serve(client)
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError, KeyError):
            pass  # the server is gone, or the client

    async def fail(self, where: float, length: float) -> None:
        """Do one of these, for so many seconds."""
        if where < 0.25:
            self.cut()
        elif where < 0.5:
            self.truncate = True
        elif where < 0.75:
            self.delay = 0.1
        else:
            silenced = set(self._sessions)
            self.silence()
            await trio.sleep(length)
            for session in silenced:
                session.cancel()
        await trio.sleep(length)
        self.truncate, self.delay = False, 0.0


@dataclass
class Disturbances:
    """Lets faults happen that are no end of anything.

    Args:
        me: The `application_name` of those who look on.
        crew: Whose processes have the folder for logs.
    """

    me: str
    dsn: str
    crew: Crew
    control: Calls
    way: Way
    tables: Path
    """The folder that the server has its tables in."""
    nobody: trio.Lock
    """Held while the server is gone."""

    async def disturb(self, fault: Fault) -> str | None:
        """Let one happen; as what it counts, or None if it could not."""
        happen: Callable[[Fault], Awaitable[object]] = {
            "backend killed": self._kill_backend,
            "backend stopped": self._stop_backend,
            "listeners": self._end_listeners,
            "lock": self._lock,
            "vacuum full": self._vacuum,
            "snapshot": self._hold_snapshot,
            "disk full": self._fill_disk,
            "migrate": self._migrate,
            "prune": self._run_command,
            "blob check": self._run_command,
            "way": self._fail_way,
        }[fault.kind]
        try:
            await happen(fault)
        except LOST:
            # One that was ended may have been in others' way.
            return fault.kind if fault.kind == "migrate" else None
        return "crash" if fault.kind == "backend killed" else fault.kind

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Connection[Any]]:
        async with await Connection.connect(self.dsn, application_name=self.me) as connection:
            yield connection

    async def _backend(self, where: float) -> int:
        async with self._session() as connection:
            found = await connection.execute(BACKEND, [self.me, where, self.me])
            row = await found.fetchone()
            if row is None:
                raise ProcessLookupError
            return int(row[0])

    async def _kill_backend(self, fault: Fault) -> None:
        """The server ends all sessions for it, and recovers."""
        async with self.nobody:
            os.kill(await self._backend(fault.where), signal.SIGKILL)
            await trio.sleep(fault.length)

            async def look(connection: Connection) -> None:
                await connection.execute("select")

            await self.control.make(look)

    async def _stop_backend(self, fault: Fault) -> None:
        async with self.nobody:  # who is stopped does not end when it is told to
            pid = await self._backend(fault.where)
            os.kill(pid, signal.SIGSTOP)
            try:
                await trio.sleep(fault.length)
            finally:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    async def _end_listeners(self, fault: Fault) -> None:
        async with self._session() as connection:
            await connection.execute(LISTENERS)

    async def _lock(self, fault: Fault) -> None:
        table = TABLES[int(fault.where * len(TABLES))]
        async with self._session() as connection, connection.transaction():
            await connection.execute("set local lock_timeout = '2s'")
            await connection.execute(f"lock table {table} in access exclusive mode".encode())
            await trio.sleep(fault.length)

    async def _vacuum(self, fault: Fault) -> None:
        table = TABLES[int(fault.where * len(TABLES))]
        async with self._session() as connection:
            await connection.execute("set lock_timeout = '2s'")
            await connection.execute(f"vacuum full {table}".encode())

    async def _hold_snapshot(self, fault: Fault) -> None:
        async with self._session() as connection, connection.transaction():
            await connection.execute("set transaction isolation level repeatable read")
            await connection.execute("select from pgflow.runs limit 1")
            await trio.sleep(3 * fault.length)

    async def _fill_disk(self, fault: Fault) -> None:
        if not self.tables.is_mount():
            raise NoDisk
        async with self.nobody:  # a server that crashes does not come back while it lasts
            while not resize(self.tables, str(used(self.tables))):
                await trio.lowlevel.checkpoint()  # somebody has written meanwhile
            try:
                await trio.sleep(fault.length)
            finally:
                resize(self.tables, ROOM)

    async def _migrate(self, fault: Fault) -> None:
        await trio.to_thread.run_sync(migrate_now, self.dsn)

    async def _run_command(self, fault: Fault) -> None:
        """Run a command, and kill it half of the time."""
        arguments = [*COMMANDS[fault.kind], "--dsn", self.dsn]
        make = partial(processes.Process, target=command)
        process = make(args=[self.crew.folder, "commands.log", *arguments])
        await trio.to_thread.run_sync(process.start)
        with trio.move_on_after(fault.length if fault.where < 0.5 else 20):
            await trio.lowlevel.wait_readable(process.sentinel)
        process.kill()
        await trio.to_thread.run_sync(process.join)

    async def _fail_way(self, fault: Fault) -> None:
        await self.way.fail(fault.where, fault.length)
