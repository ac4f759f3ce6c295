"""A disk that is full, and one that is slow."""

import os
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from pgflow_events import Flow, Settings, Worker, connect

from ...conftest import migrated_database
from ...parts.load import Load
from ...parts.observing import logged, rows
from ...parts.servers.disks import NoRightToMount, own_disk
from ...parts.servers.own_server import OwnServer, own_folder, running
from ..conftest import missing
from ..parts.soundness import assert_sound

MIB = 1024 * 1024
SIZE, ROOM = 160 * MIB, 4 * MIB
RUNS = 20
SLOW_FSYNC = Path(__file__).parents[2] / "bench" / "scenarios" / "slow_fsync.c"


@pytest.fixture
def server():
    """Its tables are on a small disk, and its log is on another."""
    with ExitStack() as stack:
        folder = stack.enter_context(own_folder())
        try:
            stack.enter_context(own_disk(folder / "data", str(SIZE)))
        except NoRightToMount as error:
            pytest.skip(f"to make a small disk takes the right to mount: {error}")
        server = OwnServer(folder)
        server.create(f"--waldir={folder / 'wal'}")
        yield stack.enter_context(running(server))


@pytest.fixture
def database(server):
    with migrated_database(server.dsn) as made:
        yield made


def fill(folder: Path) -> Path:
    """Leave but a little room on the disk of this folder."""
    filler, disk = folder / "filler", os.statvfs(folder)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize - ROOM)
    return filler


async def test_a_worker_waits_for_room_and_goes_on(server, database, client, work, caplog):
    flow = Flow("flow", timeout=600)
    full = trio.Event()

    @flow.step(slug="noise")
    async def noise():
        await full.wait()
        return os.urandom(MIB)

    flow.step(noise, slug="length")(len)
    await work(flow, settings=Settings(slots=5))
    runs = await client.start_many(flow, [None] * RUNS)
    filler = fill(server.folder / "data")
    full.set()
    await logged(caplog, "No space left on device")
    assert [await run.status() for run in runs].count("completed") < RUNS
    filler.unlink()
    for run in runs:
        assert await run.result() == {"length": MIB}
    assert set(await rows(database, "select attempts_count from pgflow.step_tasks")) == {(1,)}
    await assert_sound(database)


@pytest.fixture
def slow_database():
    """Of a server that waits for its disk for 50 ms at each commit."""
    if not shutil.which("cc"):
        missing("a C compiler")
    with own_folder() as folder:
        library = folder / "slow_fsync.so"
        command = ["cc", "-shared", "-fPIC", "-o", library, SLOW_FSYNC, "-ldl"]
        subprocess.run(command, check=True)
        server = OwnServer(folder, settings={"fsync": "on"})
        server.create()
        with running(server), migrated_database(server.dsn) as made:
            server.stop()
            server.environment |= {"LD_PRELOAD": str(library), "BENCH_FSYNC_US": "50000"}
            server.start()
            yield made


async def test_on_a_slow_disk_no_attempt_is_made_twice(slow_database, nursery):
    load = Load("flow", RUNS)
    for _ in range(2):
        await nursery.start(Worker([load.flow], slow_database, hooks=()).run)
    async with connect(slow_database) as client:
        began = trio.current_time()
        await load.complete(client, slow_database)
        assert trio.current_time() - began > 4 * 0.05  # a start, and a commit for each step
    assert set(load.attempts.values()) == {1}
    await assert_sound(slow_database)
