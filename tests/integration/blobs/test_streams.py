"""Streams and budgets in real workers; `tests/sql` has what they call, on each server."""

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio

from blobstore import Blob
from pgflow_events import Context, Flow, PermanentError, RunFailed, Settings

from ...parts.observing import execute, rows, until

MIB = 1024 * 1024
CHUNK = 4 * MIB  # what a worker writes
PIECE = bytes(MIB)
DUE = "update pgmq.q_flow set vt = clock_timestamp() - interval '1 s'"


async def stored(database: str) -> tuple[int, int, int]:
    """Blobs, those that are finished, and chunks."""
    (counts,) = await rows(
        database,
        "select (select count(*) from pgflow.output_blobs)::integer as blobs,"
        " (select count(*) from pgflow.output_blobs where sha256 is not null)::integer as finished,"
        " (select count(*) from pgflow.blob_chunks)::integer as chunks",
    )
    return tuple(counts)


async def pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield PIECE


class Streams:
    """A flow whose first step yields three chunks, then does as it is told, then yields more."""

    def __init__(self, then: Callable[[Context], Any], **options: Any) -> None:
        self.flow = Flow("flow", base_delay=0, **options)
        self.reached = trio.Event()

        @self.flow.step(self.flow.context)
        async def stream(context: Context) -> AsyncIterator[bytes]:
            async for piece in pieces(13):
                yield piece
            self.reached.set()
            await then(context)
            yield b"the end"

        @self.flow.step(stream.blob)
        async def size(blob: Blob[bytes]) -> int:
            return blob.size


async def test_a_stream_is_stored_read_in_pieces_and_passed_on(client, work, database):
    flow = Flow("flow")

    @flow.step()
    async def large() -> AsyncIterator[bytes]:
        async for piece in pieces(9):
            yield piece
        yield b"the end"

    @flow.step(large.blob)
    async def passed_on(blob):
        return blob

    @flow.step(passed_on.blob)
    async def read(blob):
        async with blob.open() as stream:
            return sum([len(piece) async for piece in stream])

    @flow.step(large)
    async def whole(value):
        return value[-7:].decode()

    await work(flow)
    run = await client.start(flow, None)
    assert await run.result() == {"read": 9 * MIB + 7, "whole": "the end"}
    assert await run.output(passed_on) == bytes(9 * MIB) + b"the end"
    assert await stored(database) == (1, 1, 3)


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
async def test_a_file_and_a_value_of_any_length_come_back(client, work, tmp_path, size):
    flow = Flow("flow")
    content = b"\0" * size

    @flow.step()
    def file():
        path = Path(tmp_path) / "file"
        path.write_bytes(content)
        return path

    @flow.step()
    async def text():
        return content.decode()

    @flow.step(file, text)
    async def same(read, written):
        return [read == content, written == content.decode()]

    await work(flow, settings=Settings(cache_budget=0))
    assert await (await client.start(flow, None)).result() == {"same": [True, True]}


async def test_a_large_input_is_stored_in_chunks_with_the_start(client, work, database):
    flow = Flow("flow")

    @flow.step(flow.input)
    async def length(value):
        return len(value)

    await work(flow)
    run = await client.start(flow, "x" * (CHUNK + 1))
    assert await run.result() == {"length": CHUNK + 1}
    assert await stored(database) == (1, 1, 2)
    (task,) = await rows(database, "select input_bytes from pgflow.step_tasks")
    assert task.input_bytes == CHUNK + 1


async def test_a_start_that_fails_leaves_nothing(client, work, database):
    with pytest.raises(Exception, match="unknown flow"):
        await client.start("missing", "x" * (CHUNK + 1))
    assert await stored(database) == (0, 0, 0)


async def test_a_stream_that_breaks_off_leaves_nothing_and_is_tried_again(client, work, database):
    async def then(context):
        assert (await stored(database))[:2] == (1, 0)
        if context.attempt == 1:
            raise ValueError("broken off")

    streams = Streams(then)
    await work(streams.flow)
    assert await (await client.start(streams.flow, None)).result() == {"size": 13 * MIB + 7}
    assert await stored(database) == (1, 1, 4)


async def test_a_stream_that_breaks_off_for_good_leaves_nothing(client, work, database):
    async def then(context):
        raise PermanentError("no more")

    streams = Streams(then)
    await work(streams.flow)
    with pytest.raises(RunFailed, match="no more"):
        await (await client.start(streams.flow, None)).result()
    assert await stored(database) == (0, 0, 0)


async def test_a_stream_that_outlasts_its_timeout_leaves_nothing(client, work, database):
    async def then(context):
        await trio.sleep_forever()

    streams = Streams(then, timeout=1, max_attempts=1)
    await work(streams.flow)
    with pytest.raises(RunFailed, match="longer than its timeout"):
        await (await client.start(streams.flow, None)).result()
    assert await stored(database) == (0, 0, 0)


async def test_a_stream_of_a_lost_attempt_is_refused_when_a_later_one_has_completed(
    client, work, database
):
    go_on, ended = trio.Event(), trio.Event()

    async def then(context):
        if context.attempt == 1:
            await go_on.wait()

    streams = Streams(then)

    def note(event):
        if event.attempt == 1 and event.step_slug == "stream":
            ended.set()

    worker = await work(streams.flow, hooks=[note])
    run = await client.start(streams.flow, None)
    await streams.reached.wait()
    await execute(database, DUE)
    worker._dispatcher.wake()
    assert await run.result() == {"size": 13 * MIB + 7}
    assert await stored(database) == (1, 1, 4)
    go_on.set()
    await ended.wait()
    assert await stored(database) == (1, 1, 4)
    assert await run.status() == "completed"


async def test_a_stream_whose_run_fails_meanwhile_leaves_nothing(client, work, database):
    ended = trio.Event()

    async def then(context):
        run_id = context.run_id
        await rows(database, "select pgflow.fail_task(%s, 'other', 0, 'boom')", run_id)

    streams = Streams(then, max_attempts=1)
    streams.flow.step(slug="other")(trio.sleep_forever)
    await work(streams.flow, hooks=[lambda event: event.step_slug == "stream" and ended.set()])
    run = await client.start(streams.flow, None)
    with pytest.raises(RunFailed, match="boom"):
        await run.result()
    await ended.wait()
    await until(lambda: empty(database))


async def empty(database: str) -> bool:
    return await stored(database) == (0, 0, 0)


async def test_a_stream_whose_run_is_deleted_leaves_nothing_and_harms_no_other(
    client, work, database
):
    flow = Flow("flow")
    deleted = trio.Event()
    other_id: list[UUID] = []

    @flow.step(flow.context)
    async def stream(context) -> AsyncIterator[bytes]:
        async for piece in pieces(13):
            yield piece
        if context.run_id not in other_id:
            try:  # the worker stops this handler as soon as its run is gone
                await rows(
                    database, "delete from pgflow.runs where run_id = %s returning 1", gone.id
                )
            finally:
                deleted.set()
        await deleted.wait()
        yield b"the end"

    await work(flow)
    gone, other = await client.start_many(flow, [None, None])
    other_id.append(other.id)
    assert len((await other.result())["stream"]) == 13 * MIB + 7
    assert await stored(database) == (1, 1, 4)
    await rows(database, "delete from pgflow.runs returning 1")
    await until(lambda: empty(database))


KILLED = """
import sys, trio
from pgflow_events import Flow, Worker

flow = Flow("flow", base_delay=0)

@flow.step(flow.context)
async def stream(context):
    for _ in range(13):
        yield bytes(1024 * 1024)
    await trio.sleep_forever()

@flow.step(stream.blob)
async def size(blob): ...

trio.run(Worker([flow], sys.argv[1]).run)
"""


def start(program: str, database: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", program, database])


async def test_another_worker_does_again_what_a_killed_one_had_half_written(client, work, database):
    killed = start(KILLED, database)
    try:
        await until(lambda: rows(database, "select from pgflow.flows"))
        run = await client.start("flow", None)
        # Those of a group are written at once, in any order.
        await until(lambda: rows(database, "select from pgflow.blob_chunks having count(*) = 3"))
    finally:
        killed.kill()
        killed.wait()
    assert await stored(database) == (1, 0, 3)
    await execute(database, DUE)

    async def then(context):
        assert context.attempt == 2

    await work(Streams(then).flow)
    assert await run.result() == {"size": 13 * MIB + 7}
    assert await stored(database) == (1, 1, 4)


# Budgets


@pytest.mark.parametrize(
    ("budget", "expected"), [(1_000_000, 1), (1_900_000, 2), (800_000, 1), (18_000_000, 20)]
)
async def test_as_many_tasks_run_at_once_as_their_inputs_fit_the_budget(
    client, work, database, budget, expected
):
    flow = Flow("flow")
    running, most = 0, 0
    ready, full = trio.Event(), trio.Event()
    pages = 0

    @flow.step()
    async def page() -> str:
        nonlocal pages
        pages += 1
        if pages == 20:
            ready.set()
        await ready.wait()
        return "x" * 900_000

    @flow.step(page)
    async def load(value):
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == expected:
            full.set()
        await full.wait()  # or else the test times out
        await trio.testing.wait_all_tasks_blocked(0.02)
        running -= 1
        return len(value)

    await work(flow, settings=Settings(input_budget=budget))
    runs = await client.start_many(flow, [None] * 20)
    with trio.fail_after(20):
        for run in runs:
            assert await run.result() == {"load": 900_000}
    assert most == expected


async def test_what_loads_nothing_runs_beside_what_fills_the_budget(client, work):
    flow = Flow("flow")
    light = trio.Event()

    @flow.step()
    async def page() -> str:
        return "x" * 900_000

    @flow.step(page)
    async def heavy(value):
        await light.wait()

    @flow.step(page.blob)
    async def reads_later(blob):
        light.set()
        return blob.size

    await work(flow, settings=Settings(input_budget=1_000_000))
    runs = await client.start_many(flow, [None] * 3)
    with trio.fail_after(10):
        for run in runs:
            assert await run.result() == {"heavy": None, "reads_later": 900_000}


async def test_two_workers_with_small_budgets_share_what_waits(client, work):
    flow = Flow("flow")

    @flow.step(flow.input)
    async def load(value):
        return len(value)

    for _ in range(2):
        await work(flow, settings=Settings(input_budget=50_000, slots=3))
    sizes = [40_000, 9_000, 200_000, 0, 30_000, 100_000] * 4
    runs = await client.start_many(flow, ["x" * size for size in sizes])
    with trio.fail_after(20):
        assert [(await run.result())["load"] for run in runs] == sizes
