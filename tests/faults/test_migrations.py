"""A database that is migrated while workers and clients use it."""

import pytest
import trio

from pgflow_events import Worker, connect
from pgflow_events.migrations import migrate_now

from ..integration.load import Load
from .soundness import assert_sound


@pytest.mark.parametrize(
    "runs", [60, pytest.param(600, marks=[pytest.mark.slow_fault, pytest.mark.timeout(180)])]
)
async def test_functions_that_are_replaced_under_load_fail_and_lose_nothing(
    database, nursery, caplog, runs
):
    load = Load("flow", runs)
    for _ in range(2):
        await nursery.start(Worker([load.flow], database, hooks=()).run)

    async def trouble() -> None:
        for attempts in range(20, 3 * runs, 40):
            await load.reach(attempts)
            await trio.to_thread.run_sync(migrate_now, database)

    async with connect(database) as client:
        await load.complete(client, database, trouble)
    assert set(load.attempts.values()) == {1}
    assert "cannot" not in caplog.text
    await assert_sound(database)
