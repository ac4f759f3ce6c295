"""Values that no threshold may let into a row, and those that are in rows: nothing else stops."""

import pytest

from pgflow_events import Flow, RunFailed, Settings

from ..parts.observing import execute, rows

pytestmark = pytest.mark.slow_fault

HUGE = 2**31 - 1
MB = 1_000_000


def other_flow() -> Flow:
    flow = Flow("other")
    flow.step(flow.input, slug="step")(lambda n: n)
    return flow


async def test_two_texts_of_140_mb_are_joined(client, work):
    flow = Flow("big", max_attempts=1, blob_threshold=200 * MB)
    left = flow.step(slug="left")(lambda: "l" * 140 * MB)
    right = flow.step(slug="right")(lambda: "r" * 140 * MB)
    flow.step(left, right, slug="join")(lambda left, right: len(left) + len(right))
    other = other_flow()
    await work(flow, other)
    run = await client.start(flow, None)
    assert await (await client.start(other, 1)).result() == {"step": 1}
    assert await run.result() == {"join": 280 * MB}


async def test_300_outputs_below_their_threshold_are_joined(client, work):
    flow = Flow("wide", max_attempts=1, blob_threshold=MB)
    parts = [flow.step(slug=f"part{n}")(lambda: "x" * 950_000) for n in range(300)]
    flow.step(*parts, slug="join")(lambda *values: sum(map(len, values)))
    other = other_flow()
    await work(flow, other)
    run = await client.start(flow, None)
    assert await (await client.start(other, 1)).result() == {"step": 1}
    assert await run.result() == {"join": 300 * 950_000}


async def test_300_leaves_below_their_threshold_end_a_run(client, work):
    flow = Flow("leaves", max_attempts=1, blob_threshold=MB)
    for n in range(300):
        flow.step(slug=f"leaf{n}")(lambda: "x" * 950_000)
    await work(flow)
    result = await (await client.start(flow, None)).result()
    assert sum(map(len, result.values())) == 300 * 950_000


async def test_a_text_of_300_mb_below_its_threshold_is_stored(client, work):
    flow = Flow("f", max_attempts=1, timeout=30, blob_threshold=HUGE)
    flow.step(slug="step")(lambda: "x" * 300 * MB)
    other = other_flow()
    await work(flow, other)
    run = await client.start(flow, None)
    assert await (await client.start(other, 1)).result() == {"step": 1}
    assert len((await run.result())["step"]) == 300 * MB


async def test_an_input_of_300_mb_below_its_threshold_is_stored(client, work):
    flow = Flow("f", input=str, max_attempts=1, blob_threshold=HUGE)
    flow.step(flow.input, slug="step")(len)
    await work(flow)
    assert await (await client.start(flow, "x" * 300 * MB)).result() == {"step": 300 * MB}


async def test_outputs_that_stand_in_rows_already_fail_what_cannot_be_made_of_them(
    client, work, database
):
    """As a release before left them there, or another program."""
    flow = Flow("big", max_attempts=1)
    left = flow.step(slug="left")(lambda: 1)
    right = flow.step(slug="right")(lambda: 2)
    flow.step(left, right, slug="join")(lambda left, right: len(left) + len(right))
    other = other_flow()
    await execute(database, LARGE)
    await work(flow, other, settings=Settings(check_interval=0.2))
    run = await client.start(flow, None)
    for n in range(3):
        assert await (await client.start(other, n)).result() == {"step": n}
    with pytest.raises(RunFailed, match="step 'join': the input cannot be read: total size of"):
        await run.result()
    (task,) = await rows(
        database, "select attempts_count from pgflow.step_tasks where status = 'failed'"
    )
    assert task.attempts_count == 0  # nobody could claim it


LARGE = """
create function public.enlarge() returns trigger language plpgsql as $$
begin
  new.output := to_jsonb(repeat('x', 140000000));
  return new;
end $$;
create trigger enlarge before update on pgflow.step_tasks for each row
when (new.status = 'completed' and new.step_slug <> 'step') execute function public.enlarge()
"""
