"""Handlers that hold up the event loop: whom it costs what, and who is told."""

import gc
import time
from contextlib import suppress

import pytest
import trio

from pgflow_events import Flow, RunFailed, TaskEvent

LATER = 1.5  # seconds, with a timeout of 1


@pytest.fixture
def run(client, work):
    """Runs a flow once, and says how its attempts ended."""

    async def run(flow: Flow) -> dict[str, TaskEvent]:
        events: list[TaskEvent] = []
        await work(flow, hooks=[events.append])
        (run,) = await client.start_many(flow, [None])
        with trio.move_on_after(20):
            with suppress(RunFailed):
                await run.result()
        return {event.step_slug: event for event in events}

    return run


def with_sibling(block, **options) -> Flow:
    """A flow of an async step that blocks, and of others that take no time, or some."""
    flow = Flow("flow", timeout=1, max_attempts=1, **options)
    begun = trio.Event()

    async def go() -> str:
        await begun.wait()
        block()
        return "done"

    def in_thread() -> str:
        trio.from_thread.run_sync(begun.set)
        return "done"

    async def awaiting() -> str:
        await trio.sleep(0.5)
        return "done"

    for handler in (go, in_thread, awaiting):
        flow.step(slug=handler.__name__)(handler)
    return flow


async def test_the_time_in_which_the_loop_stood_still_counts_against_no_other(run, caplog):
    ended = await run(with_sibling(lambda: time.sleep(LATER)))
    assert ended["in_thread"].error is None
    assert ended["awaiting"].error is None
    assert ended["awaiting"].seconds > 1
    # On a slow machine the loop may have stood still once more, which the message adds.
    assert str(ended["go"].error).startswith("the handler took longer than its timeout of 1 s")


async def test_a_handler_that_blocks_is_named_with_the_line_and_once(run, caplog):
    def block() -> None:
        time.sleep(0.3)  # this line

    flow = Flow("flow")

    async def go() -> None:
        for _ in range(3):
            block()
            await trio.lowlevel.checkpoint()

    flow.step()(go)
    await run(flow)
    (record,) = [record for record in caplog.records if "held up" in record.getMessage()]
    assert record.levelname == "WARNING"
    text = record.getMessage()
    assert text.startswith("flow.go of run ")
    assert ", attempt 1, held up the event loop for 0.3 s: nothing else ran meanwhile." in text
    assert "plain function" in text
    assert "time.sleep(0.3)  # this line" in text
    assert "in go" in text
    for ours in ("worker/executor.py", "pgflow_events/handlers/blocking.py", "trio/"):
        assert ours not in text


async def test_a_task_that_a_handler_started_is_the_handlers(run, caplog):
    flow = Flow("flow", timeout=1, max_attempts=1)

    async def block() -> None:
        time.sleep(LATER)  # noqa: ASYNC251 - that is what it is about

    @flow.step()
    async def go() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(block)

    ended = await run(flow)
    assert "flow.go of run" in caplog.text
    assert "in block" in caplog.text
    assert "took longer than its timeout" in str(ended["go"].error)


async def test_what_computes_without_letting_go_of_the_interpreter_is_named(run, caplog):
    flow = Flow("flow")
    flow.step()(compute_in_loop)
    await run(flow)
    assert "flow.compute_in_loop of run" in caplog.text
    assert ", in compute\n" in caplog.text


def compute(seconds: float) -> None:
    """Compute in C, where Python cannot switch to another thread."""
    numbers = [1] * 2_000_000
    end = time.perf_counter()
    sum(numbers)
    needed = time.perf_counter() - end
    numbers *= int(seconds / needed) + 1
    sum(numbers)


async def compute_in_loop() -> None:
    for _ in range(4):  # the thread that watches sees it in between
        compute(0.2)


async def test_where_a_thread_keeps_the_interpreter_no_handler_is_named_and_none_pays(run, caplog):
    flow = with_sibling(lambda: None)

    @flow.step()
    def computing() -> None:
        compute(LATER)

    @flow.step()
    async def sleeping() -> str:
        while True:
            await trio.sleep(0.3)
            return "done"

    ended = await run(flow)
    assert ended["sleeping"].error is None
    assert "held up" not in caplog.text


async def test_where_garbage_is_collected_no_handler_is_named(run, caplog):
    flow = Flow("flow")
    garbage = [[n] for n in range(3_000_000)]

    @flow.step()
    async def go() -> None:
        gc.collect()

    await run(flow)
    assert len(garbage) == 3_000_000
    assert "held up" not in caplog.text


async def test_a_hook_that_blocks_is_shown_and_no_handler_named(client, work, caplog):
    flow = Flow("flow")
    flow.step(slug="step")(lambda: "done")

    def hook(_: TaskEvent) -> None:
        time.sleep(0.3)

    await work(flow, hooks=[hook])
    await (await client.start(flow, None)).result()
    (record,) = [record for record in caplog.records if "stood still" in record.getMessage()]
    assert record.getMessage().startswith("the event loop stood still for 0.3 s. It was here:\n")
    assert "in hook" in record.getMessage()


async def test_a_message_about_a_timeout_says_how_long_the_loop_stood_still(run):
    flow = Flow("flow", timeout=60, max_attempts=1)

    @flow.step()
    async def go() -> None:
        await trio.sleep(0.2)
        time.sleep(LATER)  # noqa: ASYNC251 - that is what it is about

    @flow.step(timeout=1)
    async def endless() -> None:
        await trio.sleep_forever()

    ended = await run(flow)
    assert str(ended["endless"].error) == (
        "the handler took longer than its timeout of 1 s"
        f" (without {LATER} s in which the loop stood still)"
    )
