"""Processes that use an embedded server, and what can be seen of it."""

import os
import select
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from pgflow_events.embedded import server as embedded
from pgflow_events.embedded.server import EmbeddedServer

ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="root can become somebody else")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux has PDEATHSIG and /proc")

RUN_A_SERVER = """
import sys
from pathlib import Path
from pgflow_events.embedded.server import EmbeddedServer
with EmbeddedServer(Path(sys.argv[1])) as server:
    print(server.pid, server.attached, flush=True)
    sys.stdin.read()
"""


def query(server: EmbeddedServer, text: str) -> object:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        cursor = connection.execute(text)
        return cursor.fetchone()[0] if cursor.description else None


def eventually(check: Callable[[], bool], patience: float = 30) -> None:
    deadline = time.monotonic() + patience
    while not check():
        assert time.monotonic() < deadline, "waited in vain"
        select.select([], [], [], 0.002)


def await_end(pid: int) -> None:
    """Wait for the end of a process that need not be a child."""
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        assert select.select([descriptor], [], [], 30)[0], f"{pid} is still running"
        os.close(descriptor)


def modes(path: Path) -> dict[Path, int]:
    return {parent: stat.S_IMODE(parent.stat().st_mode) for parent in path.parents}


@contextmanager
def owner_of(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs a server in the folder until its standard input ends."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", RUN_A_SERVER, str(folder)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield process


def server_pid(owner: subprocess.Popen[str]) -> int:
    pid, attached = owner.stdout.readline().split()
    assert attached == "False"
    return int(pid)


def run_as(user: int, program: str, *arguments: str, **environment: str) -> str:
    """Run a program as somebody else, who needs a Python that is open to all."""
    site = Path(psycopg.__file__).parents[1]
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(embedded.__file__).parents[2]), str(site)]
    )
    version = "python{}.{}".format(*sys.version_info)
    for python in (sys.executable, shutil.which(version, path=os.defpath)):
        with suppress(PermissionError, TypeError):
            return subprocess.run(
                [python, "-c", program, *arguments],
                user=user,
                group=user,
                extra_groups=[],
                cwd="/",
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
    pytest.skip(f"user {user} can run no {version} here")
