"""What happens to an embedded server and to those who wait for it, and is nobody's plan."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pgflow_events.embedded.folder import ServerFolder
from pgflow_events.embedded.programs import find_binaries

from ...parts.embedding import RUN_A_SERVER, needs_linux

pytestmark = needs_linux  # it is /proc that tells of them


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


def test_an_interrupted_initdb_is_ended_and_leaves_nothing(fresh, door):
    binaries = with_initdb(fresh, f"trap '' INT; echo begun > {door}; read line < {door}")
    command = [sys.executable, "-c", RUN_A_SERVER, str(fresh / "pg")]
    environment = os.environ | {"PGFLOW_PG_BIN": str(binaries)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as owner:
        assert door.read_text() == "begun\n"
        owner.send_signal(signal.SIGINT)
    assert ServerFolder(fresh / "pg").is_free()
    assert {path.name for path in (fresh / "pg").iterdir()} == {"users"}
