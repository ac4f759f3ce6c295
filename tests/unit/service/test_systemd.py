"""What systemd hears: the words on the socket, and when the watchdog is fed."""

import math
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import pytest
import trio

from pgflow_events.service.systemd import NotifySocket, Service, watchdog_time
from pgflow_events.settings import credential, dsn_from_environment


class Manager:
    """The end of the socket that systemd has."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1))
        self.socket.setblocking(False)

    def heard(self) -> list[bytes]:
        """The messages since the last call."""
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4096))
            except BlockingIOError:
                return messages


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@pgflow-{token_hex(8)}"
    heard = Manager(address)
    with heard.socket:
        yield heard


def test_a_message_is_its_assignments_line_by_line(manager):
    notify = NotifySocket.of({"NOTIFY_SOCKET": manager.address})
    assert notify.send("READY=1", "STATUS=naïve")
    assert notify.send("WATCHDOG=1")
    assert manager.heard() == [b"READY=1\nSTATUS=na\xc3\xafve", b"WATCHDOG=1"]


def test_a_socket_that_is_gone_is_told_of_once_and_used_again_when_it_is_back(tmp_path, caplog):
    notify = NotifySocket(str(tmp_path / "notify"))
    assert [notify.send("READY=1"), notify.send("READY=1")] == [False, False]
    (record,) = caplog.records
    assert record.getMessage().startswith("cannot reach systemd: ")
    manager = Manager(str(tmp_path / "notify"))
    with manager.socket:
        assert notify.send("READY=1")
        assert manager.heard() == [b"READY=1"]


def test_a_manager_that_does_not_read_blocks_nobody(manager):
    notify = NotifySocket(manager.address)
    while notify.send("STATUS=" + 1000 * "x"):
        pass
    assert manager.heard()
    assert notify.send("READY=1")


def test_where_nobody_hears_nothing_is_sent(caplog):
    assert NotifySocket.of({}).send("READY=1")
    assert not caplog.records


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, math.inf),
        ({"WATCHDOG_USEC": "3000000"}, 3),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, math.inf),
        ({"WATCHDOG_USEC": "0"}, math.inf),
        ({"WATCHDOG_USEC": "soon"}, math.inf),
    ],
)
def test_the_watchdog_is_the_one_of_this_process(environment, seconds):
    assert watchdog_time(environment) == seconds


class Worker:
    """What the service asks of a worker."""

    def __init__(self, manager: Manager, watchdog: float = 60) -> None:
        self.claimed, self.changed = trio.Event(), trio.Event()
        self.figures, self.complaint = "idle", None
        self.limits: list[float] = []
        self.service = Service(
            NotifySocket(manager.address),
            watchdog,
            ready=self.claimed.wait,
            status=lambda: self.figures,
            change=self._change,
            complaint=self._complain,
        )

    async def _change(self) -> None:
        self.changed = trio.Event()
        await self.changed.wait()

    def _complain(self, limit: float) -> str | None:
        self.limits.append(limit)
        return self.complaint

    def say(self, figures: str) -> None:
        self.figures = figures
        self.changed.set()


async def test_it_is_ready_once_it_has_claimed(manager, nursery, autojump_clock):
    worker = Worker(manager)
    nursery.start_soon(worker.service.run)
    await trio.sleep(3600)
    assert manager.heard() == []
    worker.claimed.set()
    await trio.testing.wait_all_tasks_blocked()
    assert manager.heard() == [b"READY=1", b"WATCHDOG=1\nSTATUS=idle"]


@pytest.fixture
async def worker(manager, nursery) -> Worker:
    """A worker that is ready."""
    worker = Worker(manager)
    worker.claimed.set()
    nursery.start_soon(worker.service.run)
    await trio.testing.wait_all_tasks_blocked()
    assert manager.heard()
    return worker


async def test_the_watchdog_is_fed_at_half_of_its_time(worker, manager, autojump_clock):
    await trio.sleep(29.9)
    assert manager.heard() == []
    await trio.sleep(0.2)
    assert manager.heard() == [b"WATCHDOG=1"]
    await trio.sleep(300)
    assert manager.heard() == 10 * [b"WATCHDOG=1"]


async def test_new_figures_are_told_at_most_once_a_second(worker, manager, autojump_clock):
    for i in range(100):
        worker.say(f"{i} running")
        await trio.sleep(0.03)
    heard = manager.heard()
    assert [message.split(b"\n")[0] for message in heard] == len(heard) * [b"WATCHDOG=1"]
    assert 2 <= len(heard) <= 3
    await trio.sleep(1)
    assert manager.heard() == [b"WATCHDOG=1\nSTATUS=99 running"]


async def test_a_worker_that_is_not_well_does_not_feed_the_watchdog(
    worker, manager, autojump_clock, caplog
):
    worker.complaint = "the database does not answer"
    await trio.sleep(301)
    assert manager.heard() == []
    (record,) = caplog.records
    assert record.getMessage() == "the database does not answer: systemd's watchdog is not fed"
    worker.complaint = None
    await trio.sleep(30)
    assert manager.heard() == [b"WATCHDOG=1"]
    assert set(worker.limits) == {60}


async def test_without_a_watchdog_the_status_alone_is_told(manager, nursery, autojump_clock):
    worker = Worker(manager, watchdog=math.inf)
    worker.claimed.set()
    nursery.start_soon(worker.service.run)
    await trio.sleep(3600)
    assert manager.heard() == [b"READY=1", b"STATUS=idle"]


async def test_a_worker_that_leaves_says_so_and_asks_for_time_as_long_as_it_lives(
    worker, manager, autojump_clock
):
    worker.service.leave()
    assert manager.heard() == [
        b"STOPPING=1",
        b"WATCHDOG=1\nEXTEND_TIMEOUT_USEC=15000000\nSTATUS=stopping: idle",
    ]
    await trio.sleep(10.5)
    assert manager.heard() == 3 * [b"WATCHDOG=1\nEXTEND_TIMEOUT_USEC=15000000"]


async def test_a_manager_that_was_busy_hears_of_the_readiness_later(nursery, autojump_clock):
    manager = Manager(f"@pgflow-{token_hex(8)}")
    with manager.socket:
        while NotifySocket(manager.address).send("STATUS=" + 1000 * "x"):
            pass
        worker = Worker(manager)
        worker.claimed.set()
        nursery.start_soon(worker.service.run)
        await trio.sleep(10.5)  # between two tries
        manager.heard()
        await trio.sleep(1)
        assert manager.heard() == [b"READY=1", b"WATCHDOG=1\nSTATUS=idle"]


def test_the_dsn_may_be_a_credential(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("PG", "CREDENTIALS")):
            monkeypatch.delenv(name)
    assert (dsn_from_environment(), credential("pgflow-dsn")) == (None, None)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert dsn_from_environment() is None
    (tmp_path / "pgflow-dsn").write_text("host=db.example.org\n")
    assert dsn_from_environment() == "host=db.example.org"
    monkeypatch.setenv("PGFLOW_DSN", "host=other.example.org")
    assert dsn_from_environment() == "host=other.example.org"
