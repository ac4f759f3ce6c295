"""A run that is cancelled: its handlers stop, and what they did has no effect."""

import logging
import os
import signal
import threading
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import trio

from pgflow_events import Context, Flow, RunCancelled, RunFailed, Settings, TaskEvent
from pgflow_events.telemetry import log_task
from pgflow_events.worker.stops import Stops

from ...parts.handlers import computing
from ...parts.observing import execute, logged, rows, until

STATES = """
select
  r.status, r.cancel_reason, r.cancelled_at is not null,
  (select array_agg(s.status) from pgflow.step_states s where s.run_id = r.run_id) as steps,
  (select array_agg(t.status) from pgflow.step_tasks t where t.run_id = r.run_id) as tasks
from pgflow.runs r where r.run_id = %s
"""
BLOBS = "select count(*) from pgflow.output_blobs"


class Patient:
    """A flow whose first step waits for its cancellation, and notes what it sees then."""

    def __init__(self, **options: Any) -> None:
        self.flow = Flow("flow", base_delay=0, **options)
        self.events: list[TaskEvent] = []
        self.running, self.ended, self.told = trio.Event(), trio.Event(), trio.Event()
        self.why: str | None = None
        first = self.flow.step(self.flow.context, slug="first")(self._first)
        self.flow.step(first, slug="second")(self._second)

    async def _first(self, context: Context) -> None:
        assert context.stopped is None
        self.running.set()
        try:
            await trio.sleep_forever()
        finally:
            self.why = context.stopped
            self.ended.set()

    async def _second(self, first: None) -> None:
        raise AssertionError("it is never called")

    def hook(self, event: TaskEvent) -> None:
        self.events.append(event)
        self.told.set()


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def wait_for(event: trio.Event) -> None:
    with trio.fail_after(10):
        await event.wait()


async def test_a_handler_is_cancelled_and_those_that_wait_are_told(client, work, database, caplog):
    caplog.set_level(logging.INFO, "pgflow_events")
    patient = Patient()
    await work(patient.flow, hooks=[patient.hook, log_task])
    run = await client.start(patient.flow, None)
    await wait_for(patient.running)
    async with trio.open_nursery() as nursery:

        async def expect() -> None:
            with pytest.raises(RunCancelled, match="was cancelled: enough") as caught:
                await run.result()
            assert (caught.value.run_id, caught.value.reason) == (run.id, "enough")
            assert isinstance(caught.value, RunFailed)

        nursery.start_soon(expect)
        assert await run.cancel("enough")
        await wait_for(patient.ended)
    assert patient.why == "run cancelled"
    await run.wait()
    assert await run.status() == "cancelled"
    assert not await run.cancel("once more")
    assert await rows(database, STATES, run.id) == [
        ("cancelled", "enough", True, ["cancelled", "cancelled"], ["cancelled"])
    ]
    await wait_for(patient.told)
    (event,) = patient.events
    assert (event.outcome, event.stopped, event.error) == ("stopped", "run cancelled", None)
    (said,) = [record for record in caplog.records if record.name == "pgflow_events.tasks"]
    assert said.levelno == logging.INFO
    assert f"flow.first of run {run.id} stopped (run cancelled) in " in said.getMessage()
    assert "too late" not in caplog.text


async def test_its_slot_takes_the_next_task(client, work):
    patient = Patient()
    other = Flow("other")

    @other.step(other.input)
    async def answer(run: int) -> int:
        return run

    await work(patient.flow, other, settings=Settings(slots=1))
    run = await client.start(patient.flow, None)
    await wait_for(patient.running)
    waiting = await client.start(other, 7)
    await run.cancel()
    with trio.fail_after(10):
        assert await waiting.output(answer) == 7


async def test_a_thread_is_told_and_what_it_returns_has_no_effect(client, work, database):
    flow = Flow("flow")
    running, ended = threading.Event(), threading.Event()
    why: list[str | None] = []

    @flow.step(flow.context)
    def dig(context: Context) -> int:
        running.set()
        try:
            while True:
                trio.from_thread.check_cancelled()
        finally:
            why.append(context.stopped)
            ended.set()

    await work(flow)
    run = await client.start(flow, None)
    wait = partial(trio.to_thread.run_sync, abandon_on_cancel=True)
    with trio.fail_after(10):
        await wait(running.wait)
        await run.cancel()
        await wait(ended.wait)
    assert why == ["run cancelled"]


async def test_a_process_is_killed(client, work, tmp_path):
    await work(computing.flow)
    note = tmp_path / "pid"
    run = await client.start(computing.flow, {"how": "sleep", "note": str(note)})

    async def noted() -> bool:
        return note.exists() and bool(note.read_text())

    await until(noted)
    pid = int(note.read_text())
    await run.cancel()

    async def gone() -> bool:
        return not is_there(pid)

    await until(gone)


async def test_a_stream_half_written_is_removed(client, work, database):
    flow = Flow("flow")
    written, ended = trio.Event(), trio.Event()

    @flow.step(flow.context)
    async def pour(context: Context) -> AsyncIterator[bytes]:
        try:
            for _ in range(64):
                yield os.urandom(1 << 18)
            written.set()
            await trio.sleep_forever()
        finally:
            ended.set()

    await work(flow)
    run = await client.start(flow, None)
    await wait_for(written)
    assert await rows(database, BLOBS) == [(1,)]
    assert await run.cancel()
    assert await rows(database, BLOBS) == [(0,)]
    await wait_for(ended)
    assert await rows(database, "select count(*) from pgflow.blob_chunks") == [(0,)]


async def test_siblings_of_a_failed_step_stop(client, work):
    flow = Flow("flow", max_attempts=1)
    running, ended = trio.Event(), trio.Event()
    why: list[str | None] = []

    @flow.step(flow.context)
    async def wait(context: Context) -> None:
        running.set()
        try:
            await trio.sleep_forever()
        finally:
            why.append(context.stopped)
            ended.set()

    @flow.step(flow.input)
    async def fail(run: None) -> None:
        await running.wait()
        raise ValueError("no")

    await work(flow)
    await client.start(flow, None)
    await wait_for(ended)
    assert why == ["run failed"]


async def test_the_handlers_of_a_deleted_run_stop(client, work, database):
    patient = Patient()
    await work(patient.flow)
    await client.start(patient.flow, None)
    await wait_for(patient.running)
    await execute(database, "delete from pgflow.runs")
    await wait_for(patient.ended)
    assert patient.why == "run deleted"


async def test_the_other_elements_of_a_skipped_map_stop(client, work):
    flow = Flow("flow", max_attempts=1)
    running, ended = trio.Event(), trio.Event()
    why: list[str | None] = []

    @flow.step(flow.input.each, flow.context, exhausted="skip")
    async def element(number: int, context: Context) -> None:
        if number:
            await running.wait()
            raise ValueError("no")
        running.set()
        try:
            await trio.sleep_forever()
        finally:
            why.append(context.stopped)
            ended.set()

    await work(flow)
    run = await client.start(flow, [0, 1])
    await wait_for(ended)
    assert why == ["step skipped"]
    await run.wait()
    assert await run.status() == "completed"


async def test_an_error_on_the_way_out_is_told_and_has_no_effect(client, work, database):
    flow = Flow("flow")
    running = trio.Event()
    patient = Patient()

    @flow.step(flow.context)
    async def spill(context: Context) -> None:
        running.set()
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("spilt")

    await work(flow, hooks=[patient.hook])
    run = await client.start(flow, None)
    await wait_for(running)
    await run.cancel()
    await wait_for(patient.told)
    (event,) = patient.events
    assert (event.outcome, event.stopped) == ("stopped", "run cancelled")
    assert "spilt" in event.traceback
    assert await rows(database, STATES, run.id) == [
        ("cancelled", None, True, ["cancelled"], ["cancelled"])
    ]


async def test_a_worker_that_stood_still_meanwhile_hears_of_it_when_it_goes_on(client, sleeper):
    process = await trio.to_thread.run_sync(sleeper)
    read = partial(trio.to_thread.run_sync, process.stdout.readline, abandon_on_cancel=True)
    run = await client.start("rescue", None)
    with trio.fail_after(10):
        assert await read() == "asleep\n"
        process.send_signal(signal.SIGSTOP)
        assert await run.cancel()
        process.send_signal(signal.SIGCONT)
        assert await read() == "run cancelled\n"


async def test_the_answer_of_a_worker_that_does_not_hear_is_refused(
    client, work, database, caplog, monkeypatch
):
    monkeypatch.setattr(Stops, "look", lambda _: None)
    flow = Flow("flow")
    running, go_on = trio.Event(), trio.Event()

    @flow.step(flow.input)
    async def answer(run: None) -> int:
        running.set()
        await go_on.wait()
        return 7

    await work(flow)
    run = await client.start(flow, None)
    await wait_for(running)
    await run.cancel("enough")
    go_on.set()
    await logged(caplog, "too late: flow.answer")
    assert await rows(database, STATES, run.id) == [
        ("cancelled", "enough", True, ["cancelled"], ["cancelled"])
    ]
    with pytest.raises(RunCancelled):
        await run.output(answer)


async def test_a_worker_that_lost_its_connection_asks_when_it_listens_again(
    client, work, database, monkeypatch
):
    patient = Patient()
    monkeypatch.setattr(Stops, "look", lambda _: None)
    await work(patient.flow)
    run = await client.start(patient.flow, None)
    await wait_for(patient.running)
    await run.cancel()
    monkeypatch.undo()
    await execute(
        database,
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()",
    )
    await wait_for(patient.ended)
    assert patient.why == "run cancelled"
