"""Clocks that jump by an hour: the server's, and a worker's."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pgflow_events import Settings

from ...conftest import POSTGRES_15, absent, migrated_database
from ...parts.liveness_scenes import Gate, whole
from ...parts.observing import logged, rows
from ...parts.servers.own_server import OwnServer, own_folder, running
from ..conftest import missing
from ..parts.breakpoint import Breakpoint
from ..parts.soundness import assert_sound
from ..parts.victim import PAGE, Rescuer

LIBRARY = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
ALONE = Settings(slots=1, check_interval=3600, grace=3600)

Jump = Callable[[str], object]


def faking(file: Path) -> dict[str, str]:
    """The environment of a process whose clock is as far off as the file says; timers are not."""
    if not LIBRARY.exists():
        missing("libfaketime")
    return {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@pytest.fixture(scope="module")
def fooled_server():
    """A server, and what moves its clock."""
    if not POSTGRES_15.exists():
        absent("15")
    with own_folder() as folder:
        offset = folder / "offset"
        offset.write_text("+0")
        server = OwnServer(folder, binaries=POSTGRES_15)
        server.create()
        server.environment |= faking(offset)
        with running(server):
            yield server, offset.write_text


@pytest.fixture
def jump(fooled_server) -> Jump:
    """Moves the server's clock by so much from the true time."""
    return fooled_server[1]


@pytest.fixture
def database(fooled_server):
    server, jump = fooled_server
    with migrated_database(server.dsn) as made:
        yield made
    jump("+0")


async def test_when_the_server_jumps_ahead_what_runs_may_run_again_and_counts_once(
    client, work, database, jump, caplog
):
    first, second = Gate(), Gate()
    one = await work(first.flow, settings=ALONE)
    run = await client.start(first.flow, None)
    await first.running.wait()
    two = await work(second.flow, settings=Settings(check_interval=3600, grace=3600))
    await whole(database, one, two)
    jump("+1h")
    later = await client.start(first.flow, None)
    await second.running.wait()
    first.open.set()
    await logged(caplog, "too late")
    second.open.set()
    assert await run.result() == {"step": 2}
    assert await later.result() == {"step": 1}
    await assert_sound(database)


async def test_when_it_jumps_back_what_runs_and_comes_goes_on_and_what_waits_waits(
    client, work, database, jump, caplog
):
    gate = Gate()
    await work(gate.flow, settings=ALONE)
    running = await client.start(gate.flow, None)
    await gate.running.wait()
    waiting = await client.start(gate.flow, None)
    jump("-1h")
    gate.open.set()
    assert await running.result() == {"step": 1}
    assert await (await client.start(gate.flow, None)).result() == {"step": 1}
    assert await waiting.status() == "started"
    jump("+0")  # or an hour later
    await client.start(gate.flow, None)
    assert await waiting.result() == {"step": 1}
    assert gate.attempts == [1, 1, 1, 1]
    assert caplog.text == ""


@pytest.mark.parametrize("by", ["+1h", "-1h"])
async def test_the_clock_of_a_worker_does_not_matter(
    client, database, victim, nursery, tmp_path, *, by
):
    await Rescuer(database).define()
    offset = tmp_path / "offset"
    offset.write_text("+0")
    point = Breakpoint(database, "pgflow.complete_tasks", "asked")
    await nursery.start(point.run)
    run = await client.start("pages", None)
    victim(point.dsn, environment=faking(offset))
    await point.reached.wait()
    offset.write_text(by)
    point.go_on()
    assert await run.result() == {"length": len(PAGE)}
    assert set(await rows(database, "select attempts_count from pgflow.step_tasks")) == {(1,)}
    await assert_sound(database)
