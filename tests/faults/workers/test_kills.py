"""A worker that is killed at a named point of a task's life."""

import signal

import pytest
import trio

from ...parts.liveness_scenes import whole
from ...parts.observing import rows
from ..parts.breakpoint import Breakpoint
from ..parts.soundness import assert_sound
from ..parts.victim import PAGE, Rescuer, printed

READ = "then content end"
RELEASE = "pgflow.release_tasks"
OPEN, WRITE, FINISH = "pgflow.open_blob", "pgflow.write_chunk", "pgflow.finish_blob"
CLAIM, COMPLETE, NOTIFY = "pgflow_queues.claim_", "pgflow.complete_tasks", "pgflow.notify_owed"

# The point (statement, how often it passes before, moment), what the victim has begun by then, and
# what begins in another worker: each step with its attempt.
POINTS = {
    "before the claim is sent": (CLAIM, 0, "asked", [], ["page 1", "length 1"]),
    "before the claim commits": (CLAIM, 0, "done", [], ["page 1", "length 1"]),
    "after the claim has committed": (CLAIM, 0, "committed", [], ["page 2", "length 1"]),
    "before its blob is read": (READ, 0, "asked", ["page 1"], ["length 2"]),
    "while its blob is read": (READ, 0, "committed", ["page 1"], ["length 2"]),
    "before the completion": (COMPLETE, 0, "asked", ["page 1"], ["page 2", "length 1"]),
    "before the completion commits": (COMPLETE, 0, "done", ["page 1"], ["page 2", "length 1"]),
    "before the answer to the commit": (COMPLETE, 0, "committed", ["page 1"], ["length 2"]),
    "before the last completion": (COMPLETE, 1, "asked", ["page 1", "length 1"], ["length 2"]),
    "before the last commit": (COMPLETE, 1, "done", ["page 1", "length 1"], ["length 2"]),
    "before the last answer": (COMPLETE, 1, "committed", ["page 1", "length 1"], []),
    "before it notifies": (NOTIFY, 0, "asked", ["page 1", "length 1"], []),
}
# The same, where the page is written in chunks.
UPLOADS = {
    "before its upload begins": (OPEN, 0, "asked", ["page 1"], ["page 2", "length 1"]),
    "after its upload has begun": (OPEN, 0, "committed", ["page 1"], ["page 2", "length 1"]),
    "before a chunk commits": (WRITE, 1, "done", ["page 1"], ["page 2", "length 1"]),
    "after a chunk has committed": (WRITE, 1, "committed", ["page 1"], ["page 2", "length 1"]),
    "before its upload is finished": (FINISH, 0, "asked", ["page 1"], ["page 2", "length 1"]),
    "before that commits": (FINISH, 0, "done", ["page 1"], ["page 2", "length 1"]),
    "after that has committed": (FINISH, 0, "committed", ["page 1"], ["length 2"]),
}
# One that is told to leave, and is killed meanwhile: what begins elsewhere.
LEAVING = {
    "before it gives back": (RELEASE, "asked", "page 2"),
    "before that commits": (RELEASE, "done", "page 2"),
    "after that has committed": (RELEASE, "committed", "page 1"),
    "before it takes leave": ("pgflow.leave_seat", "asked", "page 1"),
}
CHUNKED = 30  # pages, of which each is small


@pytest.fixture
async def rescuer(database):
    """A worker that only the news of a death can wake; not begun, but its flow is defined."""
    worker = Rescuer(database)
    await worker.define()
    return worker


@pytest.mark.parametrize(
    "point", [*POINTS, *(pytest.param(point, marks=pytest.mark.slow_fault) for point in UPLOADS)]
)
async def test_a_task_goes_on_elsewhere_at_once_and_is_completed_once(
    client, database, victim, rescuer, nursery, *, point
):
    statement, skip, moment, before, after = (POINTS | UPLOADS)[point]
    times = CHUNKED if point in UPLOADS else 1
    breakpoint_ = Breakpoint(database, statement, moment, skip=skip)
    await nursery.start(breakpoint_.run)
    run = await client.start("pages", times)
    process = victim(breakpoint_.dsn)
    async with trio.open_nursery() as waiting:
        waiting.start_soon(run.wait)
        await breakpoint_.reached.wait()
        await nursery.start(rescuer.run)
        await whole(database)
        process.kill()
        process.wait()
        breakpoint_.drop()
        with trio.fail_after(20):
            await run.wait()
    assert process.stdout.read().split("\n") == ["ready", *before, ""]
    assert rescuer.begun == after
    assert await run.result() == {"length": times * len(PAGE)}
    await assert_sound(database)


@pytest.mark.parametrize("point", list(LEAVING))
async def test_what_it_had_when_it_was_killed_while_it_left_runs_elsewhere_at_once(
    client, database, victim, rescuer, nursery, *, point
):
    statement, moment, begun = LEAVING[point]
    leaving = Breakpoint(database, statement, moment)
    await nursery.start(leaving.run)
    run = await client.start("pages", None)
    process = victim(leaving.dsn, "hang page")
    await printed(process, "page 1")
    process.send_signal(signal.SIGTERM)
    await leaving.reached.wait()
    await nursery.start(rescuer.run)
    await whole(database)
    process.kill()
    process.wait()
    leaving.drop()
    with trio.fail_after(20):
        assert await run.result() == {"length": len(PAGE)}
    assert rescuer.begun == [begun, "length 1"]
    await assert_sound(database)


@pytest.mark.parametrize("step", ["page", "length"])
async def test_a_task_whose_handler_is_killed_runs_elsewhere_at_once(
    client, database, victim, rescuer, nursery, *, step
):
    run = await client.start("pages", None)
    process = victim(database, f"hang {step}")
    await printed(process, f"{step} 1")
    await nursery.start(rescuer.run)
    await whole(database)
    process.kill()
    process.wait()
    with trio.fail_after(20):
        assert await run.result() == {"length": len(PAGE)}
    assert rescuer.begun[0] == f"{step} 2"
    await assert_sound(database)


async def test_who_is_killed_while_it_makes_good_for_another_has_a_peer_that_does_both(
    client, database, victim, rescuer, nursery
):
    burying = Breakpoint(database, "pgflow.bury_worker", "done")
    await nursery.start(burying.run)
    run = await client.start("pages", None)
    first = victim(database, "hang page")
    await printed(first, "page 1")
    second = victim(burying.dsn)
    await printed(second, "ready")
    third = await behind(database, first, second)
    await nursery.start(third.run)
    await whole(database)
    first.kill()
    await burying.reached.wait()
    second.kill()
    second.wait()
    burying.drop()
    with trio.fail_after(20):
        assert await run.result() == {"length": len(PAGE)}
    assert third.begun == ["page 2", "length 1"]
    await assert_sound(database)


async def behind(database, first, second) -> Rescuer:
    """A worker that comes after the first in the ring: so the second goes on watching the first."""
    seats = await rows(database, "select pid, worker_id from pgflow.worker_seats")
    ids = dict(seats)
    one, two = ids[first.pid], ids[second.pid]
    while True:
        worker = Rescuer(database, grace=0.5)
        if (one < worker.id < two) or (two < one and not two < worker.id < one):
            return worker
