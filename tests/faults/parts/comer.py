"""Comes to an embedded server, writes, and leaves: again and again, each time as it is told.

Each line of stdin is one visit: `leave`; `fork`, a child that ends at once; `keeper` or
`postmaster`, to kill that one; `kill`, to be killed. Of each row that is committed its number
goes to stdout. Exits with an error if there is a second server in the folder.
"""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import psycopg
import trio

from pgflow_events.embedded.server import EmbeddedServer
from pgflow_events.postgres.connection import Connection

from ...parts.servers.postmasters import keeper_of, servers

INSERT = "insert into visits (who) values (%s) returning id"
PAUSE = 0.02  # seconds between two attempts


async def write(dsn: str, name: str) -> None:
    """Write a row, on a server that others may be killing."""
    with trio.fail_after(100):
        while True:
            with suppress(psycopg.OperationalError):
                async with await Connection.connect(dsn) as connection:
                    cursor = await connection.execute(INSERT, [name])
                    ((number,),) = await cursor.fetchall()
                print(number, flush=True)  # noqa: T201
                return
            await trio.sleep(PAUSE)


def visit(folder: Path, name: str, way: str) -> None:
    with EmbeddedServer(folder) as server:
        trio.run(write, server.dsn, name)
        there = servers(folder)
        assert len(there) <= 1, there
        if way == "fork" and not os.fork():
            os._exit(0)
        with suppress(IndexError, FileNotFoundError, ProcessLookupError):  # others were quicker
            if way == "postmaster":
                os.kill(there[0], signal.SIGKILL)
            if way == "keeper":
                os.kill(keeper_of(there[0]), signal.SIGKILL)
        if way == "kill":
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    for line in sys.stdin:
        visit(Path(sys.argv[1]), sys.argv[2], line.strip())
