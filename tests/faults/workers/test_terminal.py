"""A worker whose terminal is closed."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import trio

from ...parts.observing import rows
from ..parts.leaver import FLOWS
from .test_leaving import SEATS, define

WORKER = [sys.executable, "-m", "pgflow_events", "worker", str(FLOWS), "--stop-timeout", "0.5"]
TASKS = "select status, attempts_count from pgflow.step_tasks"


class Terminal:
    """A terminal with a worker in it, whose handler computes in a process and never ends."""

    def __init__(self, dsn: str) -> None:
        self._environment = os.environ | {"PGFLOW_DSN": dsn, "LEAVING_HOLD": "process"}
        self.pid, self._descriptor = pty.fork()
        if not self.pid:
            os.execve(WORKER[0], WORKER, self._environment)
        self._said = b""

    def until(self, text: bytes) -> None:
        while text not in self._said:
            self._said += os.read(self._descriptor, 10_000)

    def close(self) -> int:
        """Close it, and tell all that run in it as a shell does; the exit code of the worker."""
        os.killpg(self.pid, signal.SIGHUP)
        os.close(self._descriptor)
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


async def test_a_worker_whose_terminal_is_closed_leaves_in_order(client, database):
    await define(database)
    await client.start("process", None)
    terminal = Terminal(database)
    await trio.to_thread.run_sync(terminal.until, b"holding")
    assert await trio.to_thread.run_sync(terminal.close) == 0
    assert await rows(database, TASKS) == [("queued", 0)]
    assert await rows(database, SEATS) == []


@pytest.fixture
def lasting(database: str) -> Iterator["subprocess.Popen[str]"]:
    """A worker that is to outlast its terminal."""
    with subprocess.Popen(
        ["nohup", *WORKER],
        env=os.environ | {"PGFLOW_DSN": database},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def test_a_worker_that_is_to_outlast_its_terminal_does(lasting):
    assert lasting.stdout.readline().startswith("ready: ")
    lasting.send_signal(signal.SIGHUP)
    lasting.send_signal(signal.SIGTERM)
    _, log = lasting.communicate(timeout=30)
    assert lasting.returncode == 0
    assert "SIGTERM: finishing the tasks at hand" in log
    assert "SIGHUP" not in log
