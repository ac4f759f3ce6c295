"""Processes that are killed, and what is true afterwards whatever has happened."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..conftest import migrated_database
from ..integration.conftest import client, server_of_ours, work
from ..parts.servers.own_server import OwnServer

__all__ = ["client", "server_of_ours", "work"]

ROOT = Path(__file__).parents[2]

Victim = Callable[..., "subprocess.Popen[str]"]


def missing(what: str) -> None:
    """Skip, or fail where all is required that the tests could use."""
    if os.environ.get("PGFLOW_TEST_REQUIRE"):
        pytest.fail(f"{what} is required and not installed")
    pytest.skip(f"{what} is not installed")


@pytest.fixture
def victim() -> Iterator[Victim]:
    """Starts a worker in a process of its own."""
    with ExitStack() as stack:

        def start(
            dsn: str,
            *options: str,
            environment: dict[str, str] | None = None,
            module: str = "victim",
        ) -> "subprocess.Popen[str]":
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", f"tests.faults.parts.{module}", dsn, *options],
                    cwd=ROOT,
                    env=os.environ | (environment or {}),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def own_database(server_of_ours: OwnServer) -> Iterator[str]:
    """A migrated database on the module's own server, which lets everybody in."""
    with migrated_database(server_of_ours.dsn) as made:
        yield made
