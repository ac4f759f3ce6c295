"""What happens to an embedded server and to those who wait for it, and is nobody's plan."""

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import psycopg
import pytest

from pgflow_events.embedded.folder import ServerFolder, opened, takes
from pgflow_events.embedded.programs import find_binaries
from pgflow_events.embedded.server import EmbeddedServer
from pgflow_events.errors import EmbeddedError

from ...parts.servers.embedding import await_end, eventually, needs_linux, query
from ...parts.servers.postmasters import keeper_of

pytestmark = needs_linux  # it is /proc that tells of them

USE_A_SERVER = """
import sys, psycopg
from pgflow_events import EmbeddedServer
with EmbeddedServer(sys.argv[1]) as server, psycopg.connect(server.dsn):
    pass
"""


@pytest.fixture
def door(fresh: Path) -> Path:
    """A pipe that every account can open."""
    fresh.mkdir(mode=0o711)
    pipe = fresh / "door"
    os.mkfifo(pipe)
    pipe.chmod(0o666)
    return pipe


def with_initdb(folder: Path, script: str) -> Path:
    """PostgreSQL's programs, with an initdb that is this script of a shell."""
    binaries = folder / "bin"
    binaries.mkdir(mode=0o755)
    (binaries / "postgres").symlink_to(find_binaries() / "postgres")
    (binaries / "initdb").write_text(f"#!/bin/sh\n{script}\n")
    (binaries / "initdb").chmod(0o755)
    return binaries


def what_runs_in(thread: threading.Thread) -> set[str]:
    """The names of the functions that it is in."""
    frames = traceback.walk_stack(sys._current_frames()[thread.ident])
    return {frame.f_code.co_name for frame, _ in frames}


def is_being_stopped(folder: Path) -> bool:
    """Whether its keeper has seen that nobody uses the server."""
    with opened(ServerFolder(folder).open_users()) as users:
        return not takes(users, "share")


def children_of(process: int) -> dict[str, int]:
    """The processes of a server, by what they say that they are."""
    pids = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return {Path(f"/proc/{pid}/cmdline").read_text().strip(" \0"): int(pid) for pid in pids}


@pytest.mark.parametrize("mishap", ["it is stopped", "a process of it has crashed"])
def test_who_comes_while_a_server_does_not_end_waits_for_that(made, mishap):
    first = EmbeddedServer(made, timeout=9)
    first.start()
    if mishap == "it is stopped":
        os.kill(first.pid, signal.SIGSTOP)
    else:
        (writer,) = [pid for name, pid in children_of(first.pid).items() if "walwriter" in name]
        os.kill(writer, signal.SIGKILL)
        eventually(lambda: "reinitializing" in (made / "server.log").read_text())
    leaving = threading.Thread(target=first.stop)
    leaving.start()
    eventually(lambda: is_being_stopped(made))
    with EmbeddedServer(made, timeout=9) as server:
        assert (server.attached, query(server, "select 1")) == (False, 1)
    leaving.join()


def test_to_make_the_data_may_take_longer_than_the_timeout(fresh, door):
    timeout = 3
    binaries = with_initdb(fresh, f'read line < {door}; exec {find_binaries()}/initdb "$@"')
    servers = [EmbeddedServer(fresh / "pg", binaries=binaries, timeout=timeout) for _ in "ab"]
    threads = [threading.Thread(target=server.start) for server in servers]
    for thread in threads:
        thread.start()
    with door.open("w") as waiting:
        threads[0].join(timeout + 1)
        waiting.write("go on\n")
    for thread in threads:
        thread.join()
    try:
        assert [query(server, "select 1") for server in servers] == [1, 1]
    finally:
        for server in servers:
            server.stop()


def test_a_program_whose_standard_streams_are_closed_has_a_server(made):
    command = [sys.executable, "-c", USE_A_SERVER, str(made)]
    closed = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command]
    assert subprocess.run(closed, check=False).returncode == 0


def test_a_program_that_was_told_to_ignore_the_ends_of_its_children_makes_a_server(fresh):
    ignore = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
    command = [sys.executable, "-c", ignore + USE_A_SERVER, str(fresh)]
    assert subprocess.run(command, check=False).returncode == 0


def test_an_interrupted_initdb_is_ended_and_leaves_nothing(fresh, door):
    binaries = with_initdb(fresh, f"trap '' INT; echo begun > {door}; read line < {door}")

    def interrupt() -> None:
        assert door.read_text() == "begun\n"
        eventually(lambda: "communicate" in what_runs_in(threading.main_thread()))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        EmbeddedServer(fresh / "pg", binaries=binaries).start()
    thread.join()
    assert ServerFolder(fresh / "pg").is_free()
    assert {path.name for path in (fresh / "pg").iterdir()} == {"users"}


def test_to_leave_does_not_wait_for_a_server_that_nobody_reaches(made, caplog):
    server = EmbeddedServer(made)
    server.start()
    (made / "data/.s.PGSQL.5432").unlink()
    refusals = []

    def connect() -> None:
        try:
            server.start_again()
        except psycopg.OperationalError as refusal:
            refusals.append(str(refusal))

    thread = threading.Thread(target=connect)
    thread.start()
    eventually(lambda: "starting it" in caplog.text)
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 10
    thread.join()
    assert "was stopped while it was starting" in refusals[0]
    await_end(server.pid)


def test_the_error_says_how_to_end_a_server_that_nobody_reaches(made):
    with EmbeddedServer(made) as server:
        (made / "data/.s.PGSQL.5432").unlink()
        with pytest.raises(EmbeddedError, match=f"after `kill -INT {server.pid}`.*No such file"):
            EmbeddedServer(made, timeout=0.5).start()


def test_a_server_is_kept_by_its_user_also_after_the_file_of_users_was_deleted(made):
    with EmbeddedServer(made) as server:
        (made / "users").unlink()
        keeper = keeper_of(server.pid)
        os.kill(server.pid, signal.SIGKILL)
        await_end(keeper)
        assert server.start_again()
        with opened(ServerFolder(made).open_users()) as users:
            assert not takes(users, "whole")
        assert query(server, "select 1") == 1
    await_end(server.pid)
