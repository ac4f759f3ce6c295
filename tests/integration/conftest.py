"""A worker and a client on a database of the test's own."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio

from pgflow_events import Client, Flow, Worker, connect


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
