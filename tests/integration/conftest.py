"""A worker and a client on a database of the test's own."""

import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio
from psycopg.conninfo import make_conninfo

from pgflow_events import Client, EmbeddedServer, Flow, Worker, connect
from pgflow_events.schema.migrations import migrate_now

from ..parts.forking import Forked, Forker
from ..parts.servers.own_server import OwnServer, own_server

SLEEPER = Path(__file__).parents[1] / "parts" / "handlers" / "sleeper.py"


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    """A client of the test's database."""
    async with connect(database) as opened:
        yield opened


@pytest.fixture
def work(database: str, nursery: trio.Nursery) -> Callable[..., Awaitable[Worker]]:
    """Starts a worker for some flows; it is cancelled when the test ends."""

    async def start(*flows: Flow[Any], dsn: str = database, **options: Any) -> Worker:
        worker = Worker(flows, dsn, **options)
        await nursery.start(worker.run)
        return worker

    return start


@pytest.fixture
def sleeper(database: str, forker: Forker) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts a process whose worker sleeps over each task, and returns when it is ready."""
    with ExitStack() as stack:

        def start(dsn: str = database, *options: str) -> "subprocess.Popen[str]":
            program = Path(__file__).parents[1] / "parts/handlers/sleeper.py"
            process = stack.enter_context(
                Forked([dsn, *options], forker=forker, program=program, stdout=subprocess.PIPE)
            )
            stack.callback(process.kill)
            assert process.stdout.readline() == "ready\n"
            return process

        yield start


@pytest.fixture(scope="module")
def server_of_ours() -> Iterator[OwnServer]:
    """A server of the module's own, which it may stop and start."""
    with own_server() as running:
        yield running


@pytest.fixture(scope="module")
def dsn(server_of_ours: OwnServer) -> str:
    """A migrated database of a server that may be stopped."""
    with psycopg.connect(server_of_ours.dsn, autocommit=True) as admin:
        admin.execute("create database flows encoding 'UTF8' template template0")
    dsn = make_conninfo(server_of_ours.dsn, dbname="flows")
    migrate_now(dsn)
    return dsn


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """A folder that every account can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="pgflow-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def fresh(base: Path) -> Path:
    return base / uuid.uuid4().hex


@pytest.fixture(scope="module")
def made(base: Path) -> Path:
    """A server's folder, made once; each test leaves its server stopped."""
    with EmbeddedServer(base / "made"):
        return base / "made"
