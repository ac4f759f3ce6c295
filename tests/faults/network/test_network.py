"""A way to the server that cuts, delays or halves what is said, or falls silent half-way."""

import pytest
import trio

from pgflow_events import Settings, Worker, connect
from pgflow_events.worker import housekeeping as upkeep

from ...parts.load import Load
from ...parts.observing import logged
from ...parts.servers.proxy import Proxy
from ..parts.soundness import assert_sound

RUNS = 60
ATTEMPTS = 3 * RUNS
# A call has this long, and so has a notification to be heard.
PATIENCE = 0.5


@pytest.fixture
async def proxy(database, nursery):
    proxy = Proxy(database)
    await nursery.start(proxy.run)
    return proxy


@pytest.fixture
async def load(proxy, nursery, monkeypatch):
    """Runs, and two workers that are impatient."""
    monkeypatch.setattr(upkeep, "HEARING", PATIENCE)
    load = Load("flow", RUNS)
    settings = Settings(call_timeout=PATIENCE, check_interval=PATIENCE, grace=1)
    for _ in range(2):
        await nursery.start(Worker([load.flow], proxy.dsn, settings=settings, hooks=()).run)
    return load


async def test_sessions_that_are_cut_under_load_lose_nothing(database, proxy, load, client):
    async def trouble() -> None:
        for attempts in range(10, ATTEMPTS, 20):
            await load.reach(attempts)
            proxy.cut()

    await load.complete(client, database, trouble)
    await assert_sound(database)


async def test_messages_that_break_off_half_way_lose_nothing(database, proxy, load, client, caplog):
    async def trouble() -> None:
        for attempts in range(10, ATTEMPTS, 40):
            await load.reach(attempts)
            caplog.clear()
            proxy.truncate = True
            await logged(caplog, "the database does not answer")
            proxy.truncate = False

    await load.complete(client, database, trouble)
    await assert_sound(database)


async def test_a_way_that_falls_silent_half_way_is_given_up(database, proxy, load, client, caplog):
    async def trouble() -> None:
        await load.reach(RUNS)
        proxy.silence()

    await load.complete(client, database, trouble)
    assert "no answer within 0.5 s" in caplog.text
    await logged(caplog, "a notification did not arrive")
    await assert_sound(database)


@pytest.mark.slow_fault
async def test_over_a_slow_way_no_attempt_is_made_twice(database, proxy, nursery):
    load = Load("flow", 10)
    proxy.delay = 0.1  # each way, so that an answer takes 200 ms
    for _ in range(2):
        await nursery.start(Worker([load.flow], proxy.dsn, hooks=()).run)
    async with connect(proxy.dsn) as client:
        with trio.fail_after(30):
            await load.complete(client, database)
    assert set(load.attempts.values()) == {1}
    await assert_sound(database)
