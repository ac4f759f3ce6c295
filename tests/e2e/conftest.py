"""Runs the command line as a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..parts.forking import Forked, Forker

FLOWS = str(Path(__file__).with_name("flows.py"))
COMMAND = [sys.executable, "-m", "pgflow_events"]

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
Worker = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def environment(database: str) -> dict[str, str]:
    """Of all that names a database, the test's own only."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "PYTHONWARN"))}
    return kept | {"PGFLOW_DSN": database}


@pytest.fixture
def cli(spawn: Worker) -> Cli:
    """Runs a command to its end."""

    def run(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        with spawn(*arguments) as process:
            output, errors = process.communicate(text, timeout=30)
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

    return run


@pytest.fixture
def spawn(environment: dict[str, str], forker: Forker) -> Iterator[Worker]:
    """Starts a command; killed when the test ends, if it still runs."""
    with ExitStack() as stack:

        def start(*arguments: str) -> subprocess.Popen[str]:
            process = stack.enter_context(
                Forked(
                    arguments,
                    forker=forker,
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            )
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def worker(spawn: Worker) -> Worker:
    """Starts a worker, and returns when it is ready."""

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = spawn("worker", *(arguments or (FLOWS,)))
        ready = process.stdout.readline()
        assert ready.startswith("ready: "), process.stderr.read()
        return process

    return start


def end(process: "subprocess.Popen[str]", number: int = signal.SIGTERM) -> tuple[int, str]:
    """Ask a process to end; its exit code, and what was left on its stderr."""
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    return process.returncode, errors
