"""A handler that holds up the event loop for longer than the leases of its neighbours."""

import time

import pytest
import trio

from pgflow_events import Flow

from ...parts.observing import rows
from ..parts.soundness import assert_sound


@pytest.mark.parametrize("seconds", [7, 9])
async def test_a_neighbour_that_was_done_meanwhile_completes_at_its_only_attempt(
    client, database, work, seconds
):
    flow = Flow("flow", timeout=5, max_attempts=1)
    begun = trio.Event()

    @flow.step(timeout=60)
    async def go() -> str:
        await begun.wait()
        time.sleep(seconds)  # noqa: ASYNC251 - that is what it is about
        return "done"

    @flow.step()
    def thread() -> str:
        trio.from_thread.run_sync(begun.set)
        return "done"

    await work(flow)
    run = await client.start(flow, None)
    assert await run.result() == {"go": "done", "thread": "done"}
    await assert_sound(database)
    assert await rows(database, "select from pgflow.step_tasks where attempts_count <> 1") == []
