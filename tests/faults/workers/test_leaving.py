"""A worker that is told to leave, at each moment of a task's life and of its own.

Each task has one attempt, so a run that completes shows that none was lost. And each time: the exit
code, no traceback, the seat is gone, the resources are closed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import trio

from pgflow_events import Run, RunFailed, Worker
from pgflow_events.core.flows import define_flow
from pgflow_events.postgres.connection import Connection

from ...parts.observing import rows
from ..parts.breakpoint import Breakpoint
from ..parts.leaver import MIXED, ONCE, THRICE, TWICE, Leaver, leaver
from ..parts.leaving_flows import FLOWS, PAGE
from ..parts.soundness import assert_sound
from ..parts.victim import ONLY_WHEN_TOLD

__all__ = ["leaver"]

SOON = ("--stop-timeout", "0.5")
slow = pytest.mark.slow_fault
SEATS = "select * from pgflow.worker_seats"
OPENED, CLOSED = ["open"], ["open", "closed"]


@dataclass(frozen=True)
class Point:
    """A moment, as a statement that is under way, or a handler that waits."""

    statement: str
    moment: str = "asked"
    flow: str = "page"
    given: str | None = None
    holds: bool = False
    """Whether the server holds locks by then, until the session ends."""


POINTS = {
    "connecting": Point("pg_backend_pid", flow=""),
    "locking the worker": Point("pgflow.worker.", flow=""),
    "looking at the schema": Point("pgflow.schema_files", flow=""),
    "defining": Point("pgflow.define_flow", flow=""),
    "having defined": Point("pgflow.define_flow", "done", flow=""),
    "asking for channels": Point("pgflow.channel", flow=""),
    "listening": Point("LISTEN", flow=""),
    "taking a seat": Point("pgflow.take_seat", flow=""),
    "having a seat": Point("pgflow.take_seat", "committed", flow=""),
    "watching": Point("pgflow.next_worker", flow=""),
    "claiming": Point("pgflow_queues.claim_"),
    "about to commit a claim": Point("pgflow_queues.claim_", "done"),
    "having claimed": Point("pgflow_queues.claim_", "committed"),
    "reading": Point("then content end", given=PAGE),
    "having read": Point("then content end", "committed", given=PAGE),
    "beginning to write": Point("pgflow.open_blob", flow="stream"),
    "writing": Point("pgflow.write_chunk", "done", flow="stream", holds=True),
    "finishing to write": Point("pgflow.finish_blob", flow="stream", holds=True),
    "completing": Point("pgflow.complete_tasks"),
    "about to commit": Point("pgflow.complete_tasks", "done", holds=True),
    "having committed": Point("pgflow.complete_tasks", "committed"),
    "notifying": Point("pgflow.notify_owed", flow="brief"),
    "having notified": Point("pgflow.notify_owed", "committed", flow="brief"),
}
# What `make check` has time for.
SHORT = {("defining", True), ("having claimed", True), ("completing", False), ("notifying", True)}


async def define(database: str) -> None:
    async with await Connection.connect(database) as connection:
        for flow in FLOWS:
            await define_flow(connection, flow.definition())


async def assert_gone(database: str, run: Run | None, told: Leaver) -> None:
    """It went in order, and its task ended or runs elsewhere: its attempt did not count."""
    assert "Traceback" not in told.log
    assert await rows(database, SEATS) == []
    if run:
        await goes_on(database, run)
        await assert_sound(database)


async def goes_on(database: str, run: Run) -> None:
    """A peer that nobody but those who leave or die can wake completes the run, or sees it fail."""
    peer = Worker(FLOWS, database, settings=ONLY_WHEN_TOLD)
    async with trio.open_nursery() as nursery:
        await nursery.start(peer.run)
        with trio.fail_after(20):
            try:
                await run.result()
            finally:
                peer.stop()


def points() -> Iterator[Any]:
    for name in POINTS:
        for stuck in (False, True):
            is_short = (name, stuck) in SHORT
            marks = [] if is_short else [pytest.mark.slow_fault]
            yield pytest.param(
                name, stuck, marks=marks, id=f"{name}, {'stuck' * stuck or 'passed'}"
            )


@pytest.mark.parametrize(("name", "stuck"), list(points()))
async def test_told_twice_while_a_call_is_under_way_it_goes_in_order(
    client, database, leaver, nursery, *, name, stuck
):
    point = POINTS[name]
    way = Breakpoint(database, point.statement, point.moment)
    await nursery.start(way.run)
    run = None
    if point.flow:
        await define(database)
        run = await client.start(point.flow, point.given)
    told = leaver(way.dsn)
    await way.reached.wait()
    if stuck and point.holds:
        rescuer = Worker(FLOWS, database, settings=ONLY_WHEN_TOLD)
        await nursery.start(rescuer.run)
    await told.tell(*TWICE)
    if not stuck:
        way.go_on()
    code = await told.end()
    way.drop()
    assert told.said in ([], CLOSED)
    if stuck and point.holds:
        assert code == 1
        assert "1 of 1 tasks could not be given back" in told.log
        with pytest.raises(RunFailed, match="attempt 1 was lost"):
            await run.result()
    else:
        assert code == 0, told.log
        await assert_gone(database, run, told)


@pytest.mark.parametrize(
    "signals",
    [ONCE, pytest.param(TWICE, marks=slow), pytest.param(MIXED, marks=slow), THRICE],
    ids="-".join,
)
@pytest.mark.parametrize(
    "flow", ["page", *(pytest.param(each, marks=slow) for each in ("thread", "process", "stream"))]
)
async def test_told_while_a_handler_runs_it_gives_its_task_back(
    client, database, leaver, *, flow, signals
):
    await define(database)
    run = await client.start(flow, None)
    told = leaver(database, flow, *SOON)
    await told.until("holding")
    await told.tell(*signals)
    assert await told.end() == 0, told.log
    assert "done: 1 given back" in told.log
    assert told.said == ["open", "holding", "closed"]
    await assert_gone(database, run, told)


async def test_told_once_it_lets_the_handler_finish(client, database, leaver):
    await define(database)
    run = await client.start("brief", None)
    told = leaver(database, "brief")
    await told.until("holding")
    await told.tell(*ONCE)
    told.go_on()
    assert await told.end() == 0
    assert "done: 1 completed" in told.log
    assert await run.result() == {"hurry": "done"}


async def test_told_while_the_resources_open_it_gives_them_up(database, leaver):
    told = leaver(database, "open")
    await told.until("holding")
    await told.tell(*ONCE)
    assert await told.end() == 0
    await assert_gone(database, None, told)


async def test_however_often_it_is_told_the_resources_are_closed(database, leaver):
    told = leaver(database, "close")
    await told.until("ready")
    await told.tell(*ONCE)
    await told.until("holding")
    for name in (*THRICE, *MIXED):
        told.signal(name)
    told.go_on()
    await told.until("closed")
    while not told.has_ended:
        told.signal("SIGTERM")
        told.signal("SIGINT")
        await trio.lowlevel.checkpoint()
    assert await told.end() == 0, told.log
    assert told.said == ["open", "holding", "closed"]
    await assert_gone(database, None, told)


@slow
async def test_resources_that_do_not_close_end_it_with_exit_code_1(database, leaver):
    told = leaver(database, "close")
    await told.until("ready")
    await told.tell(*ONCE)
    await told.until("holding")
    for name in THRICE:
        told.signal(name)
    assert await told.end() == 1
    assert "something does not end: ending the process without it" in told.log
    assert await rows(database, SEATS) == []


async def test_a_client_that_it_has_not_told_yet_is_told_when_it_leaves(
    client, database, leaver, nursery
):
    await define(database)
    run = await client.start("brief", None)
    way = Breakpoint(database, "pgflow.notify_owed", "asked")
    await nursery.start(way.run)
    async with trio.open_nursery() as waiting:
        waiting.start_soon(run.wait)
        told = leaver(way.dsn)
        await way.reached.wait()
        await told.tell(*TWICE)
        assert await told.end() == 0, told.log
        # Much less than a client waits before it looks by itself.
        waiting.cancel_scope.deadline = trio.current_time() + 10
    assert not waiting.cancel_scope.cancelled_caught
    assert await run.result() == {"hurry": "done"}


@pytest.mark.parametrize(
    "statement",
    ["pgflow.release_tasks", *(pytest.param(s, marks=slow) for s in ("pgflow.leave_seat",))],
)
@pytest.mark.parametrize("moment", ["asked", pytest.param("committed", marks=slow)])
@pytest.mark.parametrize("stuck", [False, pytest.param(True, marks=slow)])
async def test_told_again_while_it_leaves_it_goes_on_leaving(
    client, database, leaver, nursery, *, statement, moment, stuck
):
    await define(database)
    run = await client.start("page", None)
    way = Breakpoint(database, statement, moment)
    await nursery.start(way.run)
    told = leaver(way.dsn, "page", *SOON)
    await told.until("holding")
    await told.tell(*TWICE)
    await way.reached.wait()
    for name in THRICE:
        told.signal(name)
    if not stuck:
        way.go_on()
    assert await told.end() == 0, told.log
    way.drop()
    assert told.said == ["open", "holding", "closed"]
    await assert_gone(database, run, told)
