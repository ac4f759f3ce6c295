"""A worker that is stopped (SIGSTOP) for long, and continued."""

import signal

import trio
from psycopg.conninfo import make_conninfo

from ..integration.observing import rows, until
from .breakpoint import Breakpoint
from .soundness import assert_sound
from .victim import PAGE, Rescuer, printed

COMPLETE = "pgflow.complete_tasks"
IN_TRANSACTION = "select from pg_stat_activity where state like 'idle in transaction%%'"
SHORT = "-c idle_in_transaction_session_timeout=500ms"


async def test_what_it_completes_late_is_refused_and_the_others_result_stands(
    client, database, victim, nursery
):
    rescuer = Rescuer(database, timeout=1)
    await rescuer.define()
    # What it has sent by now stays on its way until it is continued.
    point = Breakpoint(database, COMPLETE, "asked")
    await nursery.start(point.run)
    run = await client.start("pages", None)
    process = victim(point.conninfo, "", "1")
    await point.reached.wait()
    process.send_signal(signal.SIGSTOP)
    await nursery.start(rescuer.run)
    assert await run.result() == {"length": len(PAGE)}
    assert rescuer.begun == ["page 2", "length 1"]
    before = await rows(database, "select * from pgflow.step_tasks order by step_slug")
    point.go_on()
    process.send_signal(signal.SIGCONT)
    await said(process, "too late: pages.page")
    assert await rows(database, "select * from pgflow.step_tasks order by step_slug") == before
    await assert_sound(database)


async def test_its_handler_that_goes_on_late_changes_nothing(client, database, victim, nursery):
    rescuer = Rescuer(database, timeout=1)
    await rescuer.define()
    run = await client.start("pages", None)
    process = victim(database, "hang length", "1")
    await printed(process, "length 1")
    process.send_signal(signal.SIGSTOP)
    await nursery.start(rescuer.run)
    assert await run.result() == {"length": len(PAGE)}
    process.send_signal(signal.SIGCONT)
    await said(process, "too late: pages.length")
    assert await run.result() == {"length": len(PAGE)}
    assert rescuer.begun == ["length 2"]
    await assert_sound(database)


async def test_a_commit_that_the_server_gave_up_meanwhile_is_made_again(
    client, database, victim, nursery
):
    await Rescuer(database).define()
    point = Breakpoint(make_conninfo(database, options=SHORT), "COMMIT", "asked")
    await nursery.start(point.run)
    run = await client.start("pages", None)
    process = victim(point.conninfo)
    await point.reached.wait()
    process.send_signal(signal.SIGSTOP)

    async def is_given_up() -> bool:
        return not await rows(database, IN_TRANSACTION)

    await until(is_given_up)
    point.go_on()
    process.send_signal(signal.SIGCONT)
    assert await run.result() == {"length": len(PAGE)}
    assert set(await rows(database, "select attempts_count from pgflow.step_tasks")) == {(1,)}
    await assert_sound(database)


async def said(process, text: str) -> None:
    """Return when its log says so."""
    while text not in (line := await trio.to_thread.run_sync(process.stderr.readline)):
        assert line, "it has ended"
