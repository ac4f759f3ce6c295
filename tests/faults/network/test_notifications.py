"""Notifications that are lost, and a queue of them that is full."""

import signal
from contextlib import suppress
from functools import partial

import psycopg
import pytest
import trio

from pgflow_events import Run, Settings, Worker, connect
from pgflow_events.client import watch
from pgflow_events.core import summaries
from pgflow_events.postgres.connection import Connection
from pgflow_events.worker import housekeeping as upkeep

from ...conftest import migrated_database
from ...parts.liveness_scenes import Gate
from ...parts.observing import execute, logged, rows
from ...parts.servers.own_server import own_server, until
from ...parts.servers.proxy import Proxy
from ..parts.soundness import assert_sound
from ..parts.victim import PAGE, Rescuer, printed

SOON = Settings(check_interval=0.5)
FULL = "too many notifications in the NOTIFY queue"
# A page of the queue.
FILL = "select pg_notify('stuck', repeat('x', 7990))"
# All that workers hear of each other, and more of it than a socket takes.
FLOOD = """
select count(pg_notify(pgflow.channel('workers', ''), repeat('x', 7000) || i))
from generate_series(1, 100) i
"""
STUCK = """
select pid from pg_stat_activity
where datname = current_database() and wait_event = 'ClientWrite' and backend_xmin is not null
"""


async def test_where_all_notifications_are_lost_a_net_catches_what_waits(
    client, database, work, monkeypatch
):
    monkeypatch.setattr(watch, "NET", 0.5)
    gate = Gate()
    gate.open.set()
    await work(gate.flow, settings=SOON)
    await execute(
        database,
        "alter table pgflow.step_tasks disable trigger user",
        "alter table pgflow.runs disable trigger user",
        "create or replace function pgflow.notify_owed(owed_tasks text[], owed_runs text[])"
        " returns void language plpgsql as 'begin end'",
    )
    for _ in range(3):
        run = await client.start(gate.flow, None)
        with trio.fail_after(3):
            assert await run.result() == {"step": 1}


async def test_a_listener_that_is_cut_and_not_told_is_found_out_by_its_check(
    client, database, nursery, monkeypatch, caplog
):
    monkeypatch.setattr(upkeep, "HEARING", 0.5)
    proxy, gate = Proxy(database), Gate()
    await nursery.start(proxy.run)
    gate.open.set()
    settings = Settings(check_interval=0.5, listen_dsn=proxy.dsn, grace=1)
    await nursery.start(Worker([gate.flow], database, settings=settings).run)
    assert await (await client.start(gate.flow, None)).result() == {"step": 1}
    proxy.silence()
    run = await client.start(gate.flow, None)
    with trio.fail_after(20):
        assert await run.result() == {"step": 1}
    await logged(caplog, "a notification did not arrive")
    caplog.clear()
    with trio.fail_after(20):  # by a new one
        assert await (await client.start(gate.flow, None)).result() == {"step": 1}
    await assert_sound(database)


@pytest.fixture
def narrow_database():
    """Of a server whose queue of notifications is small."""
    with (
        own_server(settings={"max_notify_queue_pages": "64"}) as server,
        migrated_database(server.dsn) as made,
    ):
        yield made


def fill(dsn: str) -> psycopg.Connection:
    """Fill the queue, of which the session that is returned has read nothing."""
    stuck = psycopg.connect(dsn)
    stuck.execute("listen stuck")
    stuck.commit()
    stuck.execute("select")  # it does not read while it is in a transaction
    with (
        psycopg.connect(dsn, autocommit=True) as filler,
        pytest.raises(psycopg.OperationalError, match=FULL),
    ):
        fill_up(filler)
    return stuck


def fill_up(filler: psycopg.Connection) -> None:
    while True:
        filler.execute(FILL)


async def test_a_full_queue_of_notifications_is_told_of_and_healed(
    narrow_database, nursery, caplog
):
    gate = Gate()
    await nursery.start(Worker([gate.flow], narrow_database, settings=SOON).run)
    async with connect(narrow_database) as client:
        before = await client.start(gate.flow, None)
        await gate.running.wait()
        stuck = await trio.to_thread.run_sync(fill, narrow_database)
        # Who notifies in the commit is refused, as SQL callers are.
        with pytest.raises(psycopg.OperationalError, match=FULL):
            await rows(narrow_database, "select pgflow.start_flow('rescue', '0')")
        # A client says that nobody was woken, and has started the run all the same.
        meanwhile = await client.start(gate.flow, None)
        assert f"could not wake the workers of rescue: {FULL}" in caplog.text
        # What runs is completed, and its worker says what is wrong.
        gate.open.set()
        await until(partial(has_completed, before), within=20)
        await logged(caplog, f"cannot send a notification: {FULL}")
        stuck.close()
        # The worker's check frees what nobody reads any more.
        await until(partial(can_notify, narrow_database), within=30)
        assert await (await client.start(gate.flow, None)).result() == {"step": 1}
        assert await meanwhile.result() == {"step": 1}
        assert await before.result() == {"step": 1}
    await assert_sound(narrow_database)


async def has_completed(run: Run) -> bool:
    return await run.status() == "completed"


async def can_notify(dsn: str) -> bool:
    with suppress(psycopg.OperationalError):
        await rows(dsn, "select pg_notify('anything', '')")
        return True
    return False


async def test_a_stopped_listener_that_holds_up_vacuum_is_told_of_and_goes_on(
    client, database, victim
):
    await Rescuer(database).define()
    process = victim(database)
    await printed(process, "ready")
    process.send_signal(signal.SIGSTOP)
    async with await Connection.connect(database) as connection:

        async def stands_still() -> bool:
            await connection.execute(FLOOD)
            return bool(await rows(database, STUCK))

        await until(stands_still)
        assert (await summaries.oldest_transaction(connection)).pid in {
            pid for (pid,) in await rows(database, STUCK)
        }
        process.send_signal(signal.SIGCONT)
        run = await client.start("pages", None)
        assert await run.result() == {"length": len(PAGE)}
        assert await rows(database, STUCK) == []

        async def holds_nothing_up() -> bool:
            return await summaries.oldest_transaction(connection) is None

        await until(holds_nothing_up)
    await assert_sound(database)
