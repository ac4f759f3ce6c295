"""A worker that is stopped (SIGSTOP) for long, and continued."""

import signal

import pytest
import trio
from psycopg.conninfo import make_conninfo

from ...parts.observing import execute, rows, until
from ..parts.breakpoint import Breakpoint
from ..parts.soundness import assert_sound
from ..parts.victim import PAGE, Rescuer, printed

COMPLETE = "pgflow.complete_tasks"
IN_TRANSACTION = "select from pg_stat_activity where state like 'idle in transaction%%'"
LONG = 30  # pages: what is written in chunks is finished in a transaction of several statements
SHORT = "-c idle_in_transaction_session_timeout=500ms"


@pytest.fixture
async def rescuer(database):
    """A worker, not begun, whose handlers wait; its flow is defined."""
    worker = Rescuer(database, hold=True)
    await worker.define()
    return worker


async def take_over(rescuer: Rescuer, database: str, nursery: trio.Nursery) -> None:
    """Let it begin what the stopped one has no time left for."""
    await execute(database, "update pgflow.flows set opt_timeout = 600")
    await nursery.start(rescuer.run)
    await rescuer.has_begun.wait()


async def test_what_it_completes_late_is_refused_and_the_others_result_stands(
    client, database, victim, rescuer, nursery
):
    # What it has sent by now stays on its way until it is continued.
    point = Breakpoint(database, COMPLETE, "asked")
    await nursery.start(point.run)
    run = await client.start("pages", None)
    process = victim(point.dsn, "", "1")
    await point.reached.wait()
    process.send_signal(signal.SIGSTOP)
    await take_over(rescuer, database, nursery)
    point.go_on()
    process.send_signal(signal.SIGCONT)
    await said(process, "too late: pages.page")
    rescuer.go_on.set()
    assert await run.result() == {"length": len(PAGE)}
    assert rescuer.begun[0] == "page 2"
    (page,) = await rows(database, "select * from pgflow.step_tasks where step_slug = 'page'")
    assert (page.attempts_count, page.worker_id) == (2, rescuer.id)
    await assert_sound(database)


async def test_its_handler_that_goes_on_late_changes_nothing(
    client, database, victim, rescuer, nursery
):
    run = await client.start("pages", None)
    process = victim(database, "hang page", "1")
    await printed(process, "page 1")
    process.send_signal(signal.SIGSTOP)
    await take_over(rescuer, database, nursery)
    process.send_signal(signal.SIGCONT)
    await said(process, "too late: pages.page")
    rescuer.go_on.set()
    assert await run.result() == {"length": len(PAGE)}
    assert rescuer.begun[0] == "page 2"
    await assert_sound(database)


async def test_a_commit_that_the_server_gave_up_meanwhile_is_made_again(
    client, database, victim, nursery
):
    await Rescuer(database).define()
    point = Breakpoint(make_conninfo(database, options=SHORT), "COMMIT", "asked")
    await nursery.start(point.run)
    run = await client.start("pages", LONG)
    process = victim(point.dsn)
    await point.reached.wait()
    process.send_signal(signal.SIGSTOP)

    async def is_given_up() -> bool:
        return not await rows(database, IN_TRANSACTION)

    await until(is_given_up)
    point.go_on()
    process.send_signal(signal.SIGCONT)
    assert await run.result() == {"length": LONG * len(PAGE)}
    assert set(await rows(database, "select attempts_count from pgflow.step_tasks")) == {(1,)}
    await assert_sound(database)


async def said(process, text: str) -> None:
    """Return when its log says so."""
    while text not in (line := await trio.to_thread.run_sync(process.stderr.readline)):
        assert line, "it has ended"
