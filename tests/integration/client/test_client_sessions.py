"""Which sessions a client keeps while it waits for runs, and what they hold."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
import trio
from psycopg.conninfo import make_conninfo

from pgflow_events import Misuse, connect
from pgflow_events.client import watch
from pgflow_events.core import waking
from pgflow_events.postgres import listener

from ...parts.observing import execute, logged, rows, until
from .test_client import Gate, echo

# Sessions that have said LISTEN, and the flows for which one holds the lock of those who wait.
LISTENING = """
select pid from pg_stat_activity
where datname = current_database() and application_name = 'waiting'
"""
HELD = """
select f.flow_slug from pgflow.flows f join pg_locks l
on l.locktype = 'advisory' and l.objsubid = 1 and l.mode = 'ShareLock' and l.granted
and (l.classid::bigint << 32 | l.objid::bigint) = pgflow.waiting_key(f.flow_slug)
where l.database = (select oid from pg_database where datname = current_database())
order by 1
"""
DEFINE = "select pgflow.create_flow('{0}'), pgflow.add_step('{0}', 'step')"
COMPLETE = """
select pgflow.complete_task('{0}', 'step', 0, '"done"')
from pgflow.poll_for_tasks('{1}', 1, 1)
"""


@asynccontextmanager
async def waiting(database: str, **options) -> AsyncIterator:
    """A client whose session that listens can be told from the others."""
    listen_dsn = make_conninfo(database, application_name="waiting")
    async with connect(database, listen_dsn=listen_dsn, **options) as client:
        yield client


async def define(database: str, *slugs: str) -> None:
    await execute(database, *[DEFINE.format(slug) for slug in slugs])


async def complete(database: str, run) -> None:
    """As a caller of plain SQL does."""
    await execute(database, COMPLETE.format(run.id, run.flow_slug))


async def held(database: str) -> list[str]:
    return [slug for (slug,) in await rows(database, HELD)]


async def holds(database: str, *slugs: str) -> None:
    """Return when the locks of these flows are held, and no others."""

    async def are_held() -> bool:
        return await held(database) == sorted(slugs)

    await until(are_held)


async def test_one_session_listens_for_all_flows(database, nursery):
    slugs = [f"flow{number:02}" for number in range(30)]
    await define(database, *slugs)
    ended = []

    async def result(run) -> None:
        ended.append(await run.result())

    async with waiting(database) as client, trio.open_nursery() as waiters:
        runs = [await client.start(slug, None) for slug in slugs]
        for run in runs:
            waiters.start_soon(result, run)
        await holds(database, *slugs)
        assert len(await rows(database, LISTENING)) == 1
        for run in runs:
            await complete(database, run)
    assert ended == [{"step": "done"}] * 30


async def test_the_end_of_a_run_of_each_flow_wakes_who_waits_for_it(database, work):
    """Sooner than it would look without being told."""
    gates, sessions = [Gate("one"), Gate("two")], set()
    await work(*(gate.flow for gate in gates))
    async with waiting(database) as client, trio.open_nursery() as waiters:
        for gate in gates:  # the second one comes while the session listens already
            run = await client.start(gate.flow, None)
            waiters.start_soon(run.wait)
            await holds(database, *[g.flow.slug for g in gates[: gates.index(gate) + 1]])
            sessions.update(await rows(database, LISTENING))
        assert len(sessions) == 1
        waiters.cancel_scope.deadline = trio.current_time() + watch.POLL / 2
        for gate in gates:
            gate.open.set()
    assert not waiters.cancel_scope.cancelled_caught


async def test_a_run_that_has_ended_needs_no_session(database):
    await define(database, "flow")
    async with waiting(database) as client:
        run = await client.start("flow", None)
        await complete(database, run)
        for _ in range(2):
            assert await run.result() == {"step": "done"}
        assert await held(database) == []
        assert await rows(database, LISTENING) == []


async def test_a_flow_that_nobody_waits_for_is_let_go(database, monkeypatch):
    monkeypatch.setattr(watch, "LINGER", 0.3)
    await define(database, "one", "two")

    async def is_gone() -> bool:
        return await rows(database, LISTENING) == []

    async with waiting(database) as client, trio.open_nursery() as waiters:
        one, two = [await client.start(slug, None) for slug in ("one", "two")]
        waiters.start_soon(one.wait)
        async with trio.open_nursery() as impatient:
            impatient.start_soon(two.wait)
            await holds(database, "one", "two")
            impatient.cancel_scope.cancel()
        await holds(database, "one")
        assert len(await rows(database, LISTENING)) == 1
        await complete(database, one)
        await until(is_gone)
        again = await client.start("one", None)
        waiters.start_soon(again.wait)
        await holds(database, "one")
        await complete(database, again)


async def test_who_waits_for_one_run_after_another_keeps_the_session(database, work):
    await work(echo())
    seen = set()
    async with waiting(database) as client:
        for number in range(20):
            assert await (await client.start("flow", number)).result() == {"step": number}
            seen.update(await rows(database, LISTENING))
    assert len(seen) <= 1


async def test_a_session_that_is_ended_is_replaced_and_holds_the_same(database):
    await define(database, "one", "two")
    async with waiting(database) as client, trio.open_nursery() as waiters:
        runs = [await client.start(slug, None) for slug in ("one", "two")]
        for run in runs:
            waiters.start_soon(run.wait)
        await holds(database, "one", "two")
        ((first,),) = await rows(database, LISTENING)
        await execute(database, f"select pg_terminate_backend({first}, 5000)")
        await complete(database, runs[0])  # is noticed, though nobody may listen just now
        await runs[0].wait()
        await holds(database, "one", "two")
        ((second,),) = await rows(database, LISTENING)
        assert second != first
        await complete(database, runs[1])


async def test_what_is_wrong_with_a_look_is_told_to_who_waits_and_to_nobody_else(database):
    await define(database, "flow")
    async with connect(database) as client:
        run = await client.start("flow", None)
        await execute(database, "alter table pgflow.runs rename to others")
        with pytest.raises(psycopg.errors.UndefinedTable):
            await run.wait()
        await execute(database, "alter table pgflow.others rename to runs")
        await complete(database, run)
        await run.wait()


async def test_where_nobody_can_listen_it_looks_by_its_pool_meanwhile(database, tmp_path, caplog):
    await define(database, "flow")
    async with connect(database, listen_dsn=f"host={tmp_path}") as client:
        run = await client.start("flow", None)
        async with trio.open_nursery() as waiters:
            waiters.start_soon(run.wait)
            await logged(caplog, "listening again in")
            await complete(database, run)
            with trio.fail_after(5):
                await run.wait()


async def test_a_session_that_is_lost_is_replaced_by_looks(database, monkeypatch):
    """Until another one listens, which may take for ever where none is left."""
    await define(database, "flow")
    async with waiting(database) as client, trio.open_nursery() as waiters:
        run = await client.start("flow", None)
        waiters.start_soon(run.wait)
        await holds(database, "flow")
        monkeypatch.setattr(listener, "FIRST_DELAY", 60.0)
        ((pid,),) = await rows(database, LISTENING)
        await execute(database, f"select pg_terminate_backend({pid}, 5000)")
        await complete(database, run)
        with trio.fail_after(5):
            await run.wait()


async def test_where_the_session_cannot_listen_to_runs_it_looks_each_second(
    database, empty_database, caplog
):
    await define(database, "flow")
    async with connect(database, listen_dsn=empty_database) as client:
        run = await client.start("flow", None)
        async with trio.open_nursery() as waiters:
            waiters.start_soon(run.wait)
            await logged(caplog, 'awaited runs are looked at each second: schema "pgflow"')
            await complete(database, run)
            with trio.fail_after(5):
                await run.wait()


async def test_a_wrong_dsn_to_listen_at_is_an_error_for_who_waits(database):
    await define(database, "flow")
    async with connect(database, listen_dsn=make_conninfo(database, dbname="nowhere")) as client:
        run = await client.start("flow", None)
        with pytest.raises(psycopg.OperationalError, match="nowhere"):
            await run.wait()
        assert await run.status() == "started"


async def test_a_session_that_may_listen_no_more_is_not_asked_again_and_again(
    database, monkeypatch, caplog
):
    await define(database, "one", "two")
    async with waiting(database) as client, trio.open_nursery() as waiters:
        one, two = [await client.start(slug, None) for slug in ("one", "two")]
        waiters.start_soon(one.wait)
        await holds(database, "one")
        asked = []

        async def refuse(*arguments) -> None:
            asked.append(arguments)
            raise psycopg.errors.InsufficientPrivilege("not any more")

        monkeypatch.setattr(waking, "listen_to", refuse)
        waiters.start_soon(two.wait)
        await logged(caplog, "awaited runs are looked at each second: not any more")
        for run in (one, two):
            await complete(database, run)
    assert len(asked) == 1


async def test_who_waits_for_a_run_of_a_client_that_is_closed_is_told_so(database):
    await define(database, "flow")
    closed = pytest.raises(Misuse, match=r"^the client is closed: await its runs within")

    async def wait(run) -> None:
        with closed:
            await run.wait()

    async with trio.open_nursery() as waiters, waiting(database) as client:
        run = await client.start("flow", None)
        waiters.start_soon(wait, run)
        await holds(database, "flow")
    with closed:
        await run.result()
    async with connect(database) as unused:
        run = await unused.start("flow", None)
    with closed:
        await run.wait()
    with pytest.raises(Misuse, match=r"^the pool is closed: use it, or its client, within `async"):
        await unused.start("flow", None)
