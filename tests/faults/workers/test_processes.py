"""Processes that get no memory, do not answer for a while, or start all at once."""

import pytest
import trio

from ...parts.liveness_scenes import LISTENING, whole
from ...parts.observing import rows
from ..parts.soundness import assert_sound
from ..parts.victim import PAGE, Rescuer, printed

MANY, RUNS = 12, 60
LISTENERS = f"""
select from pg_stat_activity where query like '{LISTENING}' and pid <> pg_backend_pid()
"""
TASKS = "select step_slug, attempts_count, error_message from pgflow.step_tasks order by 1 desc"


async def test_a_handler_that_gets_no_memory_fails_its_attempt_and_its_worker_lives(
    client, database, victim
):
    await Rescuer(database).define()
    run = await client.start("pages", None)
    process = victim(database, "grab page")
    assert await run.result() == {"length": len(PAGE)}
    assert await rows(database, TASKS) == [("page", 2, "MemoryError"), ("length", 1, None)]
    assert process.poll() is None
    await assert_sound(database)


async def test_a_handler_that_blocks_its_loop_for_seconds_is_no_death(
    client, database, victim, nursery
):
    rescuer = Rescuer(database)
    await rescuer.define()
    run = await client.start("pages", None)
    process = victim(database, "block page")
    await printed(process, "page 1")
    await nursery.start(rescuer.run)
    assert await run.result() == {"length": len(PAGE)}
    assert [attempts for _, attempts, _ in await rows(database, TASKS)] == [1, 1]
    assert "page 1" not in rescuer.begun
    await assert_sound(database)


@pytest.mark.slow_fault
async def test_many_that_start_together_share_the_work_and_form_a_ring(client, database, victim):
    await Rescuer(database).define()
    runs = await client.start_many("pages", [None] * RUNS)
    processes = [victim(database) for _ in range(MANY)]
    async with trio.open_nursery() as nursery:
        for process in processes:
            nursery.start_soon(printed, process, "ready")
    await whole(database)
    assert len(await rows(database, LISTENERS)) == MANY
    for run in runs:
        assert await run.result() == {"length": len(PAGE)}
    assert {attempts for _, attempts, _ in await rows(database, TASKS)} == {1}
    await assert_sound(database)
