"""The CPU that processes used, as Linux tells it in /proc."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg

POSTMASTER = "select split_part(pg_read_file('postmaster.pid'), e'\\n', 1)::int"


def postmaster_of(connection: psycopg.Connection[Any]) -> int | None:
    """The first process of the server; None if it is elsewhere, or we may not know."""
    with suppress(psycopg.Error):
        ((pid,),) = connection.execute(POSTMASTER).fetchall()
        if children_of(pid).exists():
            return int(pid)
    return None


def server_cpu(postmaster: int) -> float:
    """Seconds of all processes of the server, with those that have ended."""
    fields = Path(f"/proc/{postmaster}/stat").read_text().rpartition(")")[2].split()
    ended = (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    return ended + sum(cpu_of(int(pid)) for pid in children_of(postmaster).read_text().split())


def cpu_of(pid: int) -> float:
    """Seconds of a process; none if it has ended."""
    with suppress(OSError):
        threads = [*Path(f"/proc/{pid}/task").iterdir()]
        return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9
    return 0.0


def children_of(pid: int) -> Path:
    """The file that names the children of a process."""
    return Path(f"/proc/{pid}/task/{pid}/children")
