"""The same values through each place where blobs are kept, in clear and sealed.

A worker and a client, with PostgreSQL, a disk and S3 over HTTP.
"""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import trio
import zstandard

from blobstore import BlobUnavailable, KeyMissing
from blobstore.keys import KeyRing
from blobstore.objects import ObjectStore
from blobstore.objects.sweep import sweep
from pgflow_events import Flow, Settings, Worker, connect
from pgflow_events.postgres.connection import Connection
from pgflow_events.upkeep import checker
from pgflow_events.upkeep.inventory import find_needing_objects
from pgflow_events.upkeep.rotation import Rotated, rotate

from ...parts.observing import execute, rows
from ...parts.past import caller
from ...parts.servers.s3_server import HASTY, PATIENT, S3Server, s3_server, s3_store

MIB = 1024 * 1024
CHUNK = 4 * MIB  # what a worker writes
THRESHOLD = 100_000  # bytes from which on outputs are objects; inputs are from 16 MiB on
MARKER = b"what nobody may see"
PIECE = b"".join(b"%s %07d\n" % (MARKER, n) for n in range(MIB // 28))
PIECES = 11
INPUT = (MARKER.decode() + ", ") * (17 * MIB // 21)
PAGE = PIECE[:300_000].decode()
RAW = b"\x00\xff" + MARKER
DATA = {"texts": [MARKER.decode()] * 3, "a": [1, 1.0, None, True, "ä"], "b": ""}
ELEMENTS = [PAGE, 1, RAW, PAGE, "short"]
STREAM = PIECE * PIECES
VALUES = {
    "length": len(INPUT),
    "page": PAGE,
    "many": STREAM,
    "part": STREAM[CHUNK - 99 : CHUNK + 99],
    "same": PAGE,
    "raw": RAW,
    "data": DATA,
    "elements": ELEMENTS,
    "read": [len(STREAM), True, True, True],
}
OLD, NEW = bytes(range(32)), bytes(range(1, 33))
KEYS = KeyRing({"one": OLD})
MAGIC = re.escape(b"\x28\xb5\x2f\xfd")  # of a zstd frame
LATER = datetime.now(UTC) + timedelta(days=2)


@pytest.fixture(scope="module")
def running_s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def s3() -> Iterator[S3Server]:
    """A server that may be harmed."""
    with s3_server() as server:
        yield server


@pytest.fixture
def disk(tmp_path: Path) -> ObjectStore:
    return ObjectStore.from_url(tmp_path.as_uri())


@pytest.fixture
def bucket(running_s3: S3Server) -> ObjectStore:
    return s3_store(running_s3.endpoint, **PATIENT)


@pytest.fixture(params=["disk", "bucket"])
def objects(request: pytest.FixtureRequest) -> ObjectStore:
    """Each object storage in turn, with nothing in it."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=[None, "disk", "bucket"], ids=["postgres", "disk", "s3"])
def place(request: pytest.FixtureRequest) -> ObjectStore | None:
    """Each place in turn; None is PostgreSQL."""
    return request.getfixturevalue(request.param) if request.param else None


def settings(objects: ObjectStore | None = None, keys: KeyRing | None = None) -> Settings:
    """Without a cache, so that what is read comes from where it is kept."""
    return Settings(objects=objects, keys=keys, object_threshold=THRESHOLD, cache_budget=0)


def all_values() -> Flow[Any]:
    """A flow whose steps return, and read, values of each kind."""
    flow = Flow("flow", max_attempts=1)

    @flow.step(flow.input)
    async def length(value):
        return len(value) if value == INPUT else 0

    @flow.step(media_type="text/html")
    async def page():
        return PAGE

    @flow.step()
    async def many():
        for _ in range(PIECES):
            yield PIECE

    @flow.step(many.blob)
    async def part(blob):
        return await blob.read(CHUNK - 99, CHUNK + 99)

    @flow.step(page.blob)
    async def same(blob):
        return blob

    flow.step(slug="raw")(lambda: RAW)
    flow.step(slug="data")(lambda: DATA)
    flow.step(slug="elements", by_element=True)(lambda: ELEMENTS)

    steps = flow.steps

    @flow.step(many.blob, same, steps["data"], steps["elements"].blob)
    async def read(stream, text, data, listed):
        async with stream.open() as pieces:
            size = sum([len(piece) async for piece in pieces])
        each = [await listed.item(number) for number in range(listed.length)]
        return [size, text == PAGE, data == DATA, each == await listed.value() == ELEMENTS]

    return flow


def contents(objects: ObjectStore) -> dict[str, bytes]:
    """All objects, by path."""
    paths = [meta["path"] for meta in objects._store.list().collect()]
    return {path: objects._store.get(path).bytes().to_bytes() for path in paths}


def dump(database: str) -> dict[str, bytes]:
    """The bytes of all columns of all tables, the queues' too."""
    with psycopg.connect(database) as connection:
        names = connection.execute(
            "select oid::regclass::text from pg_class where relkind = 'r'"
            " and relnamespace in ('pgflow'::regnamespace, 'pgmq'::regnamespace)"
        ).fetchall()
        dumped = {}
        for (name,) in names:
            with connection.cursor().copy(f"copy {name} to stdout (format binary)") as copy:
                dumped[name] = b"".join(copy)
        return dumped


def readable(raw: bytes) -> Iterator[bytes]:
    """What somebody without a key could read: the bytes, and what they are once decompressed."""
    yield raw
    for frame in re.finditer(MAGIC, raw):
        with suppress(zstandard.ZstdError):
            yield zstandard.ZstdDecompressor().decompressobj().decompress(raw[frame.start() :])


def seen(parts: dict[str, bytes], words: list[bytes]) -> dict[str, set[bytes]]:
    """Which of these words can be read in which of the parts."""
    found = {
        name: {word for text in readable(raw) for word in words if word in text}
        for name, raw in parts.items()
    }
    return {name: words for name, words in found.items() if words}


async def unharmed(database: str, objects: ObjectStore | None, keys: KeyRing | None) -> int:
    """How many blobs there are, all of which could be read and are as their rows say."""
    async with await Connection.connect(database) as connection:
        checked = await checker.check(connection)
        await checker.check_contents(caller(database), checked, keys=keys, objects=objects)
    assert (checked.faults, checked.not_checked) == ([], {})
    return checked.verified


@pytest.mark.parametrize("keys", [None, KEYS], ids=["in clear", "sealed"])
async def test_values_are_the_same_wherever_they_are_kept(work, database, place, keys):
    flow = all_values()
    await work(flow, settings=settings(place, keys))
    async with connect(database, keys=keys, objects=place) as client:
        run = await client.start(flow, INPUT)
        await run.wait()
        assert {slug: await run.output(step) for slug, step in flow.steps.items()} == VALUES
        handle = await run.output(flow.steps["many"].blob)
        assert await handle.read(-9, None) == STREAM[-9:]

    kept = await rows(database, "select step_slug, kind, store, key_id from pgflow.output_blobs")
    name = place and "objects"
    # Who seals stores anew what a step passes on.
    passing = {"run", "page", "many"} | ({"same"} if keys else set())
    large = {row.step_slug: row.store for row in kept if row.step_slug in passing}
    assert large == dict.fromkeys(passing, name)
    assert {row.store for row in kept if row.step_slug not in large} == {None}
    assert {row.key_id for row in kept} == {keys and "one"}
    assert await unharmed(database, place, keys) == len(kept)

    stored = contents(place) if place else {}
    assert len(stored) == (5 + 1 + 3 + bool(keys) if place else 0)
    digests = [sha256(value).digest() for value in (STREAM, PAGE.encode(), RAW)]
    found = seen(dump(database) | stored, [MARKER, *digests])
    if keys:
        assert found == {}
    else:
        # It would be found: in every object, and in the database.
        assert {path for path, words in found.items() if MARKER in words} >= stored.keys()
        assert set.union(*(words for path, words in found.items() if path not in stored)) == {
            MARKER,
            *digests,
        }


class Failures:
    """The attempts at a step that failed; the worker may be told to stop at one of them."""

    def __init__(self, step: str, last: float = float("inf")) -> None:
        self.errors: list[BaseException | None] = []
        self.any = trio.Event()
        self.worker: Worker | None = None
        self._step = step
        self._last = last

    def note(self, event: Any) -> None:
        if event.error and event.step_slug == self._step:
            self.errors.append(event.error)
            self.any.set()
            if len(self.errors) == self._last and self.worker:
                self.worker.stop()


async def test_what_is_written_while_the_server_is_dead_is_tried_again(work, database, s3):
    flow = Flow("flow", base_delay=0, max_attempts=3)
    back = trio.Event()

    @flow.step(flow.context)
    async def many(context):
        for _ in range(PIECES):
            yield PIECE
        if context.attempt == 1:
            s3.kill()
            yield PIECE * 4
        await back.wait()

    @flow.step(many.blob)
    async def size(blob):
        return [blob.size, await blob.bytes() == STREAM]

    # What is refused is refused at once; a busy machine has its time.
    store, failures = s3_store(s3.endpoint, **HASTY | PATIENT), Failures("many")
    await work(flow, settings=settings(store), hooks=[failures.note])
    async with connect(database) as client:
        run = await client.start(flow, None)
        await failures.any.wait()
        await trio.to_thread.run_sync(s3.start)
        back.set()
        assert await run.result() == {"size": [len(STREAM), True]}
    (error,) = failures.errors
    assert isinstance(error, BlobUnavailable)
    assert "cannot write: Connection refused, no connection" in str(error)
    assert await unharmed(database, store, None) == 1


async def test_what_is_read_while_the_server_is_frozen_is_tried_again(work, database, s3):
    flow = Flow("flow", base_delay=0, max_attempts=100)

    @flow.step()
    async def page():
        return PAGE

    @flow.step(page)
    async def freeze(value):
        s3.freeze()

    @flow.step(page, freeze)
    async def same(value, _):
        return value == PAGE

    store, failures = s3_store(s3.endpoint, **HASTY), Failures("same")
    await work(flow, settings=settings(store), hooks=[failures.note])
    async with connect(database) as client:
        run = await client.start(flow, None)
        await failures.any.wait()
        s3.thaw()
        assert await run.result() == {"same": True}
    assert all(isinstance(error, BlobUnavailable) for error in failures.errors)
    assert "cannot read: no answer in time" in str(failures.errors[0])


@asynccontextmanager
async def lacking(flow: Flow[Any], database: str, **options: Any) -> AsyncIterator[Failures]:
    """A worker that is stopped when it has failed twice; the block ends with it."""
    failures = Failures("same", last=2)
    async with trio.open_nursery() as nursery:
        failures.worker = Worker([flow], database, hooks=[failures.note], **options)
        await nursery.start(failures.worker.run)
        yield failures


LACKING = {
    "objects": (BlobUnavailable, "kept in the store 'objects', which this process does not have"),
    "keys": (KeyMissing, "the key ring of this process has no key 'one'"),
}


@pytest.mark.parametrize("lacks", LACKING)
@pytest.mark.parametrize("by_handle", [False, True], ids=["value", "handle"])
async def test_a_worker_that_lacks_something_leaves_the_task_to_others(
    work, database, disk, lacks, by_handle
):
    error, words = LACKING[lacks]
    flow = Flow("flow", base_delay=0, max_attempts=100)

    @flow.step(flow.context, flow.input.blob if by_handle else flow.input)
    async def same(context, value):
        return [context.attempt > 2, (await value.text() if by_handle else value) == INPUT]

    given = {"objects": disk, "keys": KEYS}
    rest = {name: value for name, value in given.items() if name != lacks}
    async with connect(database, **given) as client, connect(database, **rest) as poor:
        async with lacking(flow, database, settings=settings(**rest)) as failures:
            run = await client.start(flow, INPUT)
        # A claim that was under way when it was stopped makes another attempt.
        assert len(failures.errors) >= 2
        assert {type(each) for each in failures.errors} == {error}
        assert all(words in str(each) for each in failures.errors)
        (task,) = await rows(database, "select status, error_message from pgflow.step_tasks")
        assert task.status == "queued"
        assert words in task.error_message
        await work(flow, settings=settings(**given))
        assert await run.result() == {"same": [True, True]}
        if lacks == "keys":
            with pytest.raises(KeyMissing, match="'one'"):
                await (await poor.find(run.id)).result()


async def test_a_client_that_lacks_the_store_is_told_so_and_reads_the_rest(work, database, disk):
    flow = Flow("flow")
    page = flow.step(slug="page")(lambda: PAGE)
    small = flow.step(slug="small")(lambda: "x" * 10_000)
    await work(flow, settings=settings(disk))
    async with connect(database) as client:
        run = await client.start(flow, None)
        with pytest.raises(BlobUnavailable, match="in the store 'objects', which this"):
            await run.result()
        assert await run.output(small) == "x" * 10_000
        assert (await run.output(page.blob)).size == len(PAGE)


async def test_keys_may_be_rotated_while_workers_write_and_read(work, database, place):
    flow = Flow("flow", max_attempts=1)
    before, after = KeyRing({"old": OLD, "new": NEW}), KeyRing({"new": NEW, "old": OLD})
    moved: list[int] = []

    async def rotate_now() -> Rotated:
        rotated = Rotated()
        async with await Connection.connect(database) as connection:
            await rotate(connection, after, rotated, batch=2)
        moved.append(rotated.blobs)
        return rotated

    @flow.step(flow.input)
    async def many(value):
        for number in range(PIECES):
            yield PIECE
            if number == 6:  # there is a chunk, and more to come
                await rotate_now()

    @flow.step(many.blob, flow.input.blob)
    async def read(blob, page):
        async with blob.open() as stream:
            head = await stream.receive_some(10)
            await rotate_now()
            rest = [piece async for piece in stream]
        return [head + b"".join(rest) == STREAM, await page.value() == PAGE]

    await work(flow, settings=settings(place, before))
    async with connect(database, keys=before, objects=place) as client:
        run = await client.start(flow, PAGE)
        assert await run.result() == {"read": [True, True]}
    last = await rotate_now()
    assert (last.left, last.damaged) == ({}, [])
    # The input and a stream without its end; nothing; the last output.
    assert moved == [2, 0, 1]
    only_new = KeyRing({"new": NEW})
    async with connect(database, keys=only_new, objects=place) as client:
        assert await (await client.find(run.id)).output(many) == STREAM
    assert await unharmed(database, place, only_new) == 3


async def test_a_sweep_removes_what_deleted_runs_and_failed_attempts_left_and_no_other(
    work, database, objects
):
    flow = Flow("flow", base_delay=0, max_attempts=2)

    @flow.step(flow.context)
    async def many(context):
        yield PIECE * 13  # of which three chunks are written
        if context.attempt == 1:
            raise OSError

    flow.step(slug="page")(lambda: PAGE)

    async def left() -> set[UUID]:
        return {UUID(path.split("/")[1]) for path in contents(objects)}

    await work(flow, settings=settings(objects))
    async with connect(database, objects=objects) as client:
        gone, kept = await client.start_many(flow, [None, None])
        await gone.wait()
        await kept.wait()
        await execute(database, f"delete from pgflow.runs where run_id = '{gone.id}'")
        needed = {row.id for row in await rows(database, "select id from pgflow.output_blobs")}
        orphans = await left() - needed
        assert len(needed) == 2
        assert len(orphans) == 4  # of the deleted run, and a half of either run's
        async with await Connection.connect(database) as connection:
            swept = await sweep(objects, partial(find_needing_objects, connection), now=LATER)
        assert (swept.kept, swept.removed, swept.young) == (2, len(orphans), 0)
        assert await left() == needed
        assert await kept.result() == {"many": PIECE * 13, "page": PAGE}


async def test_an_object_of_an_attempt_that_was_lost_is_refused_and_harms_no_other(
    work, database, objects
):
    flow = Flow("flow", base_delay=0)
    reached, go_on, ended = trio.Event(), trio.Event(), trio.Event()

    @flow.step(flow.context)
    async def many(context):
        yield PIECE * 13
        if context.attempt == 1:
            reached.set()
            await go_on.wait()
        yield b"the end"

    def note(event):
        if event.attempt == 1:
            ended.set()

    worker = await work(flow, settings=settings(objects), hooks=[note])
    async with connect(database, objects=objects) as client:
        run = await client.start(flow, None)
        await reached.wait()
        await execute(database, "update pgmq.q_flow set vt = clock_timestamp() - interval '1 s'")
        worker._dispatcher.wake()
        assert await run.result() == {"many": PIECE * 13 + b"the end"}
        go_on.set()
        await ended.wait()
        other = await client.start(flow, None)
        assert await other.result() == {"many": PIECE * 13 + b"the end"}
        assert await unharmed(database, objects, None) == 2
