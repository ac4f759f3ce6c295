"""Workers that live and look dead: none is buried, and no attempt is made twice."""

import logging
import signal
from uuid import uuid4

import pytest
import trio
from psycopg.conninfo import make_conninfo

from pgflow_events import Settings, connect
from pgflow_events.core import workers as seats
from pgflow_events.postgres.connection import Connection
from pgflow_events.worker.stops import Stops

from ...parts.liveness_scenes import SESSIONS, TERMINATE, Gate, asleep, attempts, whole
from ...parts.observing import execute, logged, rows, until

HOUR = Settings(check_interval=3600, grace=3600)
LONG_ENOUGH = 3.0  # seconds: a peer in doubt waits for 2 for the other sessions of a worker


@pytest.mark.parametrize("kind", list(SESSIONS))
@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pooled"])
async def test_connections_of_one_kind_that_are_cut_are_no_death(
    work, database, caplog, *, kind, pooled
):
    gate = Gate()
    both = []
    for name in ("first", "second"):
        dsn = make_conninfo(database, application_name=name)
        settings = Settings(check_interval=3600, grace=3600, listen_dsn=dsn if pooled else None)
        both.append(await work(gate.flow, dsn=dsn, settings=settings))
    await whole(database, *both)
    await execute(database, "select from pgflow.start_flow('rescue', '0')")
    await gate.running.wait()
    for name in ("first", "second"):
        cut = await rows(
            database, f"{TERMINATE} and application_name = '{name}' and {SESSIONS[kind]}"
        )
        assert cut
    await trio.sleep(LONG_ENOUGH)
    await whole(database, *both)
    gate.open.set()
    async with connect(database) as client:
        ((run_id,),) = await rows(database, "select run_id from pgflow.runs")
        assert await (await client.find(run_id)).result() == {"step": 1}
    assert "has died" not in caplog.text


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_server_that_restarts_kills_no_worker(server_of_ours, dsn, work, caplog, mode):
    gate = Gate()
    workers = [
        await work(gate.flow, dsn=dsn, settings=Settings(check_interval=3600, grace=3))
        for _ in range(3)
    ]
    async with connect(dsn) as client:
        runs = await client.start_many(gate.flow, [None] * 3)
        await until(lambda: all_claimed(dsn))
        await execute(
            dsn, "create table if not exists public.flushed ()"
        )  # and the claims before it
        await whole(dsn, *workers)
        await trio.to_thread.run_sync(server_of_ours.restart, mode)
        await whole(dsn, *workers)
        await trio.sleep(LONG_ENOUGH + 1)
        await whole(dsn, *workers)
        gate.open.set()
        for run in runs:
            assert await run.result() == {"step": 1}
    assert "has died" not in caplog.text
    await execute(dsn, "delete from pgflow.worker_seats")


async def all_claimed(dsn: str) -> bool:
    return not await rows(
        dsn, "select from pgflow.step_tasks where status = 'queued' and attempts_count = 0"
    )


async def test_a_worker_that_is_stopped_and_continued_is_alive_and_its_death_is_noticed_then(
    client, work, database, sleeper
):
    gate = Gate()
    process = sleeper()
    await client.start(gate.flow, None)
    await asleep(process)
    await work(gate.flow, settings=Settings(check_interval=3600, grace=0.5))
    await whole(database)
    process.send_signal(signal.SIGSTOP)
    await trio.sleep(LONG_ENOUGH)
    assert await rows(database, "select from pgflow.live_workers where not alive") == []
    process.send_signal(signal.SIGCONT)
    await whole(database)
    await trio.sleep(LONG_ENOUGH)
    await whole(database)
    assert await attempts(database) == [1]
    process.kill()
    await gate.running.wait()
    assert gate.attempts == [2]


async def test_behind_a_pooler_a_death_is_noticed_within_two_seconds(
    client, work, database, sleeper
):
    gate = Gate()
    process = sleeper(database, "pooled")
    await client.start(gate.flow, None)
    await asleep(process)
    await work(gate.flow, settings=HOUR)
    await whole(database)
    process.kill()
    with trio.fail_after(3):
        await gate.running.wait()
    assert gate.attempts == [2]


@pytest.mark.parametrize("hears", [False, True])
async def test_what_a_worker_says_that_was_wrongly_buried_is_refused_and_it_works_on(
    client, work, database, caplog, *, monkeypatch, hears
):
    look = Stops.look
    monkeypatch.setattr(Stops, "look", lambda _: None)
    caplog.set_level(logging.INFO)
    gate = Gate()
    dsn = make_conninfo(database, application_name="wronged")
    one = Settings(slots=1, check_interval=3600, grace=3600)  # lest it claim its own task again
    wronged = await work(gate.flow, dsn=dsn, settings=one)
    run = await client.start(gate.flow, None)
    await gate.running.wait()
    other = Gate()
    burier = await work(other.flow, settings=HOUR)
    await whole(database, wronged, burier)
    for kind in ("works", "listens"):  # in this order none is left that shows its life
        await rows(database, f"{TERMINATE} and application_name = 'wronged' and {SESSIONS[kind]}")
    with trio.fail_after(10):
        await other.running.wait()
    await whole(database, wronged, burier)
    if hears:
        look(wronged._stops)
        await logged(caplog, "stopped (lease lost)")
    gate.open.set()
    if not hears:
        await logged(caplog, "too late")
    other.open.set()
    assert await run.result() == {"step": 2}


async def test_the_server_looks_after_a_machine_that_may_vanish(server_of_ours, dsn):
    tcp = make_conninfo(server_of_ours.tcp, dbname="flows")
    async with await Connection.connect(tcp) as connection:
        await seats.hold_worker_lock(connection, uuid4())
        shown = await connection.execute("show tcp_keepalives_idle")
        assert await shown.fetchone() == ("15",)
