"""Workers, clients and observers of the release before go on while and after it is upgraded."""

from collections.abc import Iterator
from typing import Self

import psycopg
import pytest
import trio

from pgflow_events.cli.doctor.losses import schema_losses
from pgflow_events.postgres.connection import Connection
from pgflow_events.schema.migrations import migrate_now
from pgflow_events.schema.sql_files import sql_files

from ...parts import release_before
from ...parts.past import faults
from ...parts.release_before import STEPS, OldWorker
from ...parts.servers.logins import VERSIONS, execute, login, owned_database, server_with_logins
from ...parts.servers.own_server import OwnServer

RUNS = 10
START = "select run_id from pgflow.start_flows('f', array[%s::text::jsonb])"
ENDED = "select from pgflow.runs where run_id = any(%s) and status = 'completed'"
SEEN = (
    "select run_id, flow_slug, status, output_blobs_refs from pgflow.runs",
    "select step_slug, status, error_message from pgflow.step_tasks",
    "select id, kind, raw_size from pgflow.output_blobs",
    "select * from pgflow.workers",
    "select msg_id from pgmq.q_f",
)


@pytest.fixture(scope="module", params=VERSIONS)
def server(request: pytest.FixtureRequest) -> Iterator[OwnServer]:
    with server_with_logins(request.param) as server:
        yield server


@pytest.fixture
def before(server: OwnServer) -> Iterator[str]:
    """A database of olga's as the release before left it."""
    with owned_database(server) as dsn:
        release_before.install(dsn)
        yield dsn


class OldClient:
    """A client of that release, in one session."""

    def __init__(self, dsn: str) -> None:
        self._session = psycopg.connect(dsn, autocommit=True)
        self._session.execute("select pg_advisory_lock_shared(pgflow.waiting_key('f'))")
        ((channel,),) = self._session.execute("select pgflow.channel('runs', 'f')").fetchall()
        self._session.execute(f"listen {channel}".encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def start(self, count: int) -> list[object]:
        """Start runs with small and with large inputs, each in a transaction of its own."""
        inputs = ["1", f'"{"x" * 20_000}"']
        return [
            self._session.execute(START, [inputs[n % 2]]).fetchall()[0][0] for n in range(count)
        ]

    def wait(self, run_ids: list[object]) -> bool:
        """Whether they are completed, soon enough."""
        for _ in range(100):
            if len(self._session.execute(ENDED, [run_ids]).fetchall()) == len(run_ids):
                return True
            list(self._session.notifies(timeout=0.1, stop_after=1))
        return False


@pytest.fixture
def worker(before: str) -> Iterator[OldWorker]:
    """One that has begun."""
    worker = OldWorker(login(before, "wanda"))
    worker.start()
    assert worker.ready.wait(20)
    assert worker.errors == []
    yield worker
    worker.stop()


async def test_a_worker_a_client_and_an_observer_of_the_release_before_go_on(before, worker):
    with OldClient(login(before, "clio")) as client:
        first = client.start(RUNS)
        assert client.wait(first[:1])
        assert await trio.to_thread.run_sync(migrate_now, before) == [
            file.path for file in sql_files("migrations") if file.path >= "migrations/0011"
        ]
        assert client.wait(first)
        assert client.wait(client.start(RUNS)), worker.errors
    for query in SEEN:
        execute(login(before, "otto"), query)
    worker.stop()
    assert (worker.errors, worker.done) == ([], 2 * RUNS * len(STEPS))
    # A function that began with the rights of before may end with those of now, once.
    assert worker.warnings <= 1
    assert await faults(before) == []
    async with await Connection.connect(before) as connection:
        assert await schema_losses(connection) == []
