"""Commands that share the embedded PostgreSQL, as processes of their own."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pgflow_events.embedded.folder import ServerFolder

from ...parts.servers.embedding import await_end, needs_linux
from ...parts.servers.postmasters import keeper_of
from ..conftest import FLOWS, end

FIRST_COMER = [
    sys.executable,
    "-c",
    """
import sys
from pgflow_events.cli.database import database
with database(None):
    print("ready", flush=True)
    sys.stdin.read()
""",
]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Of a server that is made once; the name is that of a domain account's home."""
    with tempfile.TemporaryDirectory(prefix="pgflow-test-") as base:
        Path(base).chmod(0o755)
        yield Path(base) / "jane@corp"


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    """No database is named, and libpq's variables are those of another."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "PYTHONWARN"))}
    return kept | {"PGFLOW_PG_FOLDER": str(folder), "PGCHANNELBINDING": "require"}


@pytest.fixture
def door(tmp_path: Path) -> Iterator[socket.socket]:
    """Where the handler of the flow `patient` asks for what to return."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "door"))
        listening.listen()
        listening.settimeout(30)
        yield listening


@pytest.fixture
def asked(spawn, door) -> Callable[[], tuple["subprocess.Popen[str]", socket.socket]]:
    """Starts a run, and returns when its handler asks: the command that waits, and who asks."""

    def start() -> tuple["subprocess.Popen[str]", socket.socket]:
        given = json.dumps({"door": door.getsockname()})
        waiting = spawn("start", "patient", given, "--wait")
        return waiting, door.accept()[0]

    return start


@pytest.fixture
def first_comer(environment) -> Iterator["subprocess.Popen[str]"]:
    """What a command is that came before the worker; it ends when its input does."""
    pipe = subprocess.PIPE
    with subprocess.Popen(FIRST_COMER, env=environment, stdin=pipe, stdout=pipe, text=True) as it:
        assert it.stdout.readline() == "ready\n"
        yield it
        it.kill()


@pytest.mark.parametrize("way", ["it ends", "SIGKILL"])
def test_the_end_of_the_command_that_came_first_takes_nothing_from_the_worker(
    folder, first_comer, worker, asked, way
):
    process = worker(FLOWS)
    waiting, asking = asked()
    if way == "SIGKILL":
        first_comer.kill()
    first_comer.stdin.close()
    first_comer.wait(30)
    with asking:
        asking.send(b"answered")
    assert json.loads(waiting.communicate(timeout=30)[0]) == {"ask": "answered"}
    code, errors = end(process)
    assert (code, "again" in errors) == (0, False)
    assert ServerFolder(folder).is_free()


@needs_linux
def test_a_worker_whose_server_is_ended_starts_another_and_completes_its_task(
    folder, worker, asked
):
    process = worker(FLOWS)
    waiting, asking = asked()
    postmaster = int(ServerFolder(folder).pid_file()["pid"])
    os.kill(keeper_of(postmaster), signal.SIGKILL)
    await_end(postmaster)
    with asking:
        asking.send(b"answered")
    assert json.loads(waiting.communicate(timeout=50)[0]) == {"ask": "answered"}
    code, errors = end(process)
    assert (code, "the embedded PostgreSQL in" in errors) == (0, True)
    assert ServerFolder(folder).is_free()


def test_a_command_alone_starts_the_server_and_leaves_none_behind(folder, cli):
    result = cli("runs", "--json")
    assert (result.returncode, json.loads(result.stdout) is not None) == (0, True)
    assert f"using the embedded PostgreSQL in {folder}" in result.stderr
    assert ServerFolder(folder).is_free()
