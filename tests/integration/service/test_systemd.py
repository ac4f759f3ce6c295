"""A worker as a service, on a database that fails it, with a handler that is late."""

import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgflow_events import Flow, Settings, Worker
from pgflow_events.postgres.connection import Connection

from ...parts.observing import counting, logged, rows

WATCHDOG = 0.4
IDLE = Settings(check_interval=3600)


class Manager:
    """What systemd would hear."""

    def __init__(self, hearing: trio.socket.SocketType) -> None:
        self._hearing = hearing

    async def hear(self) -> str:
        return (await self._hearing.recv(4096)).decode()

    async def await_assignment(self, wanted: str) -> None:
        with trio.fail_after(20):
            while wanted not in (await self.hear()).split("\n"):
                pass

    async def heard(self, seconds: float) -> list[str]:
        """What is said in so many seconds from now on."""
        messages = []
        with trio.move_on_after(0.001):
            while True:
                await self.hear()
        with trio.move_on_after(seconds):
            while True:
                messages.append(await self.hear())
        return messages


@pytest.fixture
async def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Manager]:
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", f"{WATCHDOG * 1e6:.0f}")
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hearing:
        await hearing.bind(address)
        yield Manager(hearing)


def lone() -> Flow[Any]:
    flow = Flow("flow")
    flow.step(slug="step")(lambda: None)
    return flow


@pytest.fixture
def serve(
    database: str, nursery: trio.Nursery, manager: Manager
) -> Callable[..., Awaitable[Worker]]:
    """Starts a worker as a service, and returns when it is ready."""

    async def start(*flows: Flow[Any], settings: Settings = IDLE) -> Worker:
        worker = Worker(flows, database, settings=settings)
        await nursery.start(lambda task_status: worker.run(signals=True, task_status=task_status))
        await manager.await_assignment("READY=1")
        return worker

    return start


async def test_an_idle_worker_feeds_the_watchdog_without_a_statement(database, serve, manager):
    async with counting(database) as statements:
        await serve(lone())
        await statements.settle()
        heard = await manager.heard(1)
        assert await statements.counts() == {}
    assert heard == len(heard) * ["WATCHDOG=1"]
    assert len(heard) >= 3


@pytest.fixture
async def closed(database: str) -> AsyncIterator[Callable[[bool], Awaitable[None]]]:
    """Closes the database to everybody, or opens it again."""
    name = conninfo_to_dict(database)["dbname"]
    async with await Connection.connect(make_conninfo(database, dbname="postgres")) as admin:

        async def close(closed: bool) -> None:
            await admin.execute(f"alter database {name} allow_connections {not closed}")
            if closed:
                end_all = "select pg_terminate_backend(pid) from pg_stat_activity"
                await admin.execute(f"{end_all} where datname = %s", [name])

        yield close
        with trio.CancelScope(shield=True):
            await close(False)


async def test_an_idle_worker_finds_out_at_its_self_check_that_the_database_is_gone(
    serve, manager, closed, caplog
):
    await serve(lone(), settings=Settings(check_interval=0.2, call_timeout=2))
    await closed(True)
    await logged(caplog, "the database does not answer: systemd's watchdog is not fed")
    assert not any("WATCHDOG=1" in message for message in await manager.heard(1))
    await closed(False)
    await manager.await_assignment("WATCHDOG=1")


async def test_where_notifications_do_not_arrive_and_it_polls_it_is_well(
    serve, manager, database, caplog
):
    elsewhere = make_conninfo(database, dbname="postgres")
    settings = Settings(listen_dsn=elsewhere, poll_interval=0.05)
    await serve(lone(), settings=settings)
    await logged(caplog, "notifications do not arrive")
    assert len(await manager.heard(1)) >= 3


class Patient:
    """A flow whose step ends when it is cancelled."""

    def __init__(self) -> None:
        self.flow = Flow("flow", max_attempts=1)
        self.running = trio.Event()
        self.flow.step(slug="step")(self._step)

    async def _step(self) -> None:
        self.running.set()
        await trio.sleep_forever()


async def test_a_handler_that_takes_longer_than_the_stop_timeout_is_cancelled_and_given_back(
    client, serve, manager, database, caplog
):
    caplog.set_level("INFO")
    patient = Patient()
    await serve(patient.flow, settings=Settings(stop_timeout=0.2))
    await client.start(patient.flow, None)
    await patient.running.wait()
    signal.raise_signal(signal.SIGTERM)
    await manager.await_assignment("STOPPING=1")
    await logged(caplog, "done: 1 given back")
    found = await rows(
        database, "select status, attempts_count, started_at, worker_id from pgflow.step_tasks"
    )
    assert found == [("queued", 0, None, None)]


async def test_where_nothing_can_be_given_back_it_leaves_all_the_same(
    client, database, closed, caplog, monkeypatch
):
    monkeypatch.setattr("pgflow_events.worker.leaving.GIVE_BACK", 0.2)
    patient = Patient()
    worker = Worker([patient.flow], database, settings=Settings(stop_timeout=0.1))
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(
                lambda task_status: worker.run(signals=True, task_status=task_status)
            )
            await client.start(patient.flow, None)
            await patient.running.wait()
            await closed(True)
            signal.raise_signal(signal.SIGTERM)
    assert "1 of 1 tasks could not be given back" in caplog.text
    assert worker.has_left_tasks
