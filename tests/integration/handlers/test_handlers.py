"""What handlers may do, and what becomes of their tasks."""

import threading
from contextlib import asynccontextmanager

import pytest
import trio

from pgflow_events import Flow, PermanentError, RunFailed, Settings, TaskEvent, Worker

from ...parts.observing import rows

PAGE = "<p>long" * 10_000


def one_step(handler, **options) -> Flow:
    """A flow of one step that takes the context."""
    flow = Flow("flow", **{"base_delay": 0} | options)
    flow.step(flow.context, slug="step")(handler)
    return flow


@pytest.fixture
def result(client, work):
    """Works on a flow and runs it once; the output of its step `step`."""

    async def result(flow: Flow, **options):
        await work(flow, **options)
        return (await (await client.start(flow, None)).result())["step"]

    return result


async def test_an_error_fails_the_run_with_its_type_and_text(result):
    def handler(context):
        raise ValueError("no such \0 page: \ud800" + "x" * 5_000_000)

    with pytest.raises(RunFailed) as failure:
        await result(one_step(handler, max_attempts=1))
    text = str(failure.value)
    assert "of 'flow' failed in step 'step': ValueError: no such \N{REPLACEMENT CHARACTER}" in text
    assert len(text) < 9000


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise KeyError


ERRORS = [
    Unspeakable(),
    SystemExit(1),
    KeyboardInterrupt(),
    GeneratorExit(),
    BaseExceptionGroup("a", [BaseExceptionGroup("b", [SystemExit()]), KeyError("d")]),
]


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "async"])
async def test_whatever_it_raises_the_worker_goes_on(result, plain):
    raised = []

    def handler(context):
        if context.attempt <= len(ERRORS):
            raise ERRORS[context.attempt - 1]
        return "done"

    async def async_handler(context):
        return handler(context)

    flow = one_step(handler if plain else async_handler, max_attempts=len(ERRORS) + 1)
    assert await result(flow, hooks=[lambda event: raised.append(event.error)]) == "done"
    assert raised == [*ERRORS, None]


async def test_it_is_tried_as_often_as_its_step_says_and_knows_the_attempt(
    result, database, caplog
):
    attempts = []

    async def handler(context):
        attempts.append(context.attempt)
        raise ValueError(context.attempt)

    with pytest.raises(RunFailed, match="ValueError: 4"):
        await result(one_step(handler, max_attempts=4))
    assert attempts == [1, 2, 3, 4]
    (task,) = await rows(database, "select * from pgflow.step_tasks")
    assert (task.attempts_count, task.status, task.error_message) == (4, "failed", "ValueError: 4")
    assert "(attempt 4 of 4)" in caplog.text


async def test_a_permanent_error_is_not_tried_again(result, database):
    async def handler(context):
        async with trio.open_nursery() as nursery:

            async def fail():
                raise PermanentError("never")

            nursery.start_soon(fail)

    with pytest.raises(RunFailed, match="PermanentError: never"):
        await result(one_step(handler))
    (task,) = await rows(database, "select attempts_count from pgflow.step_tasks")
    assert task.attempts_count == 1


async def test_an_async_handler_is_cancelled_at_its_timeout(result):
    ended = trio.Event()

    async def handler(context):
        if context.attempt == 2:
            assert ended.is_set()
            return "done"
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    events = []
    assert await result(one_step(handler, timeout=1), hooks=[events.append]) == "done"
    assert str(events[0].error) == "the handler took longer than its timeout of 1 s"
    assert 1 <= events[0].seconds < 2


async def test_a_plain_handler_that_hangs_is_given_up_and_its_slot_is_free(result):
    enough = threading.Event()

    def handler(context):
        return "done" if context.attempt == 2 else enough.wait()

    try:
        flow = one_step(handler, timeout=1)
        assert await result(flow, settings=Settings(slots=1)) == "done"
    finally:
        enough.set()


async def test_what_fails_for_good_fails_the_run_while_its_other_tasks_go_on_in_vain(
    client, work, database, caplog
):
    flow = Flow("flow", base_delay=0)
    running = trio.Event()

    @flow.step()
    async def fails():
        await running.wait()
        raise PermanentError("x")

    @flow.step()
    async def goes_on():
        running.set()
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            return PAGE  # a blob, of which nothing may be left

    @flow.step(goes_on)
    async def never(page):
        raise AssertionError

    events = {}

    def hook(event: TaskEvent) -> None:
        events[event.step_slug] = event.outcome

    worker = Worker([flow], database, hooks=[hook])
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        run = await client.start(flow, None)
        with pytest.raises(RunFailed, match=r"failed in step 'fails': PermanentError: x$"):
            await run.result()
        worker.stop()
    assert "too late" not in caplog.text
    assert events == {"fails": "failed", "goes_on": "stopped"}
    assert await rows(database, "select from pgflow.output_blobs") == []
    found = await rows(database, "select step_slug, status from pgflow.step_states order by 1")
    assert found == [("fails", "failed"), ("goes_on", "cancelled"), ("never", "created")]


HARM = {
    "appended": "update pgflow.output_blobs set content = content || '\\x00'",
    "flipped": "update pgflow.output_blobs"
    " set content = set_byte(content, 20, get_byte(content, 20) # 1)",
    "resized": "update pgflow.output_blobs set raw_size = 99",
    "deleted": "delete from pgflow.output_blobs",
}


async def test_a_blob_that_is_damaged_or_gone_fails_its_task_for_good_and_no_other(
    client, work, database
):
    flow = Flow("flow")

    @flow.step(flow.input)
    async def give(run):
        return PAGE

    @flow.step(flow.input, flow.context, give)
    async def spoil(run, context, page):
        if run in HARM:
            harm = HARM[run] + " where run_id = %s returning id"
            ((blob_id,),) = await rows(database, harm, context.run_id)
            return str(blob_id)
        return None

    @flow.step(give, spoil)
    async def take(page, spoilt):
        return len(page)

    await work(flow, settings=Settings(cache_budget=0))
    *spoilt, whole, other = await client.start_many(flow, [*HARM, "whole", "other"])
    for run, harm in zip(spoilt, HARM, strict=True):
        with pytest.raises(RunFailed) as failure:
            await run.result()
        kind = "Missing" if harm == "deleted" else "Damaged"
        blob_id = await run.output(spoil)
        assert f"step 'take': Blob{kind}: blob {blob_id} " in str(failure.value), harm
    for run in (whole, other):
        assert await run.result() == {"take": len(PAGE)}
    failed = await rows(
        database, "select attempts_count from pgflow.step_tasks where status = 'failed'"
    )
    assert failed == len(HARM) * [(1,)]


async def test_resources_are_opened_once_and_closed_at_the_end(client, database):
    log = []

    @asynccontextmanager
    async def resources():
        log.append("open")
        yield {"greeting": "hello"}
        log.append("closed")

    async def handler(context):
        log.append(context.resources["greeting"])

    flow = one_step(handler)
    worker = Worker([flow], database, resources=resources)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        for run in await client.start_many(flow, [None] * 3):
            await run.result()
        worker.stop()
    assert log == ["open", "hello", "hello", "hello", "closed"]


async def test_a_hook_is_told_of_every_attempt_and_may_raise(result, caplog):
    events = []

    def hook(event: TaskEvent) -> None:
        events.append(event)
        raise ZeroDivisionError

    async def handler(context):
        if context.attempt == 1:
            raise ValueError
        return context.attempt

    assert await result(one_step(handler), hooks=[hook, events.append]) == 2
    assert [(event.attempt, event.outcome) for event in events] == [
        (1, "failed"),
        (1, "failed"),
        (2, "completed"),
        (2, "completed"),
    ]
    assert caplog.messages.count("a hook raised an error") == 2
