"""Comes to an embedded server, writes, and leaves or is killed: again and again, as told.

Of stdin each line is one visit: `leave`, `kill` or `fork`. Of each row that was committed its
number goes to stdout. Exits with an error if there is a second server in the folder.
"""

import os
import signal
import sys
from pathlib import Path

import psycopg

from pgflow_events.embedded import EmbeddedServer

from ..integration.postmasters import servers


def visit(folder: Path, name: str, way: str) -> None:
    with EmbeddedServer(folder) as server, psycopg.connect(server.conninfo) as connection:
        row = connection.execute("insert into visits (who) values (%s) returning id", [name])
        (number,) = row.fetchone()
        connection.commit()
        print(number, flush=True)  # noqa: T201
        there = servers(folder)
        assert there == [server.pid], f"{there} in place of {server.pid}"
        if way == "fork" and not os.fork():
            os._exit(0)
        if way == "kill":
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    for line in sys.stdin:
        visit(Path(sys.argv[1]), sys.argv[2], line.strip())
