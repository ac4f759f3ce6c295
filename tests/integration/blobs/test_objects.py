"""Chunks in each store: PostgreSQL, a disk, S3 over HTTP; and what only object storage has."""

import os
import re
import subprocess
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio
import trio.testing
from obstore.store import MemoryStore, from_url

from blobstore.abc import BlobStore
from blobstore.errors import BlobMissing
from blobstore.objects import ObjectStore
from blobstore.objects.store import ObjectStoreError, StoredBlob
from blobstore.objects.sweep import Swept, sweep
from blobstore.postgres.ids import new_blob_id, new_id
from blobstore.postgres.rows import BlobRow, open_blob
from blobstore.postgres.store import PostgresStore

from ...parts.past import caller
from ...parts.servers.s3_server import (
    BUCKET,
    CREDENTIALS,
    HASTY,
    PATIENT,
    S3Server,
    s3_server,
    s3_store,
)

MB = 1_000_000
LATER = datetime.now(UTC) + timedelta(days=2)
KEYS_OF_OTHERS = [
    "readme.txt",
    "0/readme.txt",
    "0/0/0",
    "x/00000000-0000-7000-8000-000000000000/0",
    "0/00000000-0000-7000-8000-000000000000/0",  # the digit of this id is another one
    "2/00000000-0000-7000-8000-000000000000/0/0",
    "2/00000000-0000-7000-8000-000000000000/0.bak",
    "f/ABCDEFAB-0000-7000-8000-000000000000/0",
]

Answer = Callable[[bytes], Awaitable[bytes]]


@pytest.fixture(scope="module")
def running_s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(params=["disk", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """Each storage in turn, with nothing in it."""
    if request.param == "disk":
        return ObjectStore.from_url(tmp_path.as_uri())
    return s3_store(request.getfixturevalue("running_s3").endpoint, **PATIENT)


@pytest.fixture(params=["postgres", "disk", "s3"])
def any_store(request: pytest.FixtureRequest) -> BlobStore:
    """Each store in turn, with nothing in it."""
    if request.param == "postgres":
        return PostgresStore(caller(request.getfixturevalue("database")))
    if request.param == "disk":
        return ObjectStore.from_url(request.getfixturevalue("tmp_path").as_uri())
    return s3_store(request.getfixturevalue("running_s3").endpoint, **PATIENT)


@pytest.fixture
def s3() -> Iterator[S3Server]:
    """A server that may be harmed."""
    with s3_server() as server:
        yield server


@pytest.fixture
async def answering(nursery: trio.Nursery) -> Callable[[Answer], Awaitable[str]]:
    """Starts servers that answer every request the same way; gives their endpoints."""

    async def start(answer: Answer) -> str:
        async def serve(stream: trio.SocketStream) -> None:
            request = b""
            while b"\r\n\r\n" not in request:
                request += await stream.receive_some() or b"\r\n\r\n"
            await stream.send_all(await answer(request))

        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        return f"http://127.0.0.1:{listener.socket.getsockname()[1]}"

    return start


def always(answer: bytes) -> Answer:
    async def give(_: bytes) -> bytes:
        return answer

    return give


def response(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def listed(store: ObjectStore) -> dict[UUID, StoredBlob]:
    async with aclosing(store.blobs()) as blobs:
        return {blob.id: blob async for blob in blobs}


async def saved(store: ObjectStore, chunks: int = 1, size: int = 10) -> UUID:
    blob_id = uuid4()
    for seq in range(chunks):
        await store.put(blob_id, seq, b"x" * size)
    return blob_id


def rows(*ids: UUID) -> Callable[[Sequence[UUID]], Awaitable[Collection[UUID]]]:
    async def exists(asked: Sequence[UUID]) -> Collection[UUID]:
        return set(asked) & set(ids)

    return exists


def made_old(folder: Path) -> None:
    """Every file was written two days ago."""
    then = (datetime.now(UTC) - timedelta(days=2)).timestamp()
    for path in folder.rglob("*/*/*"):
        os.utime(path, (then, then))


async def begun(store: BlobStore) -> UUID:
    """A blob without chunks. In the database, its row comes before them."""
    run_id = new_id()
    row = BlobRow(new_blob_id(run_id), run_id, "run", 0, "bytes", chunk_size=MB)
    if isinstance(store, PostgresStore):
        await store._make(partial(open_blob, row=row, attempt=None, wait_for_disk=True))
    return row.id


class TestChunks:
    """What every store of chunks does."""

    async def test_chunks_come_back_in_the_order_they_are_asked_for(self, any_store):
        blob_id = await begun(any_store)
        chunks = [b"", bytes(range(256)), os.urandom(MB)]
        for seq, content in enumerate(chunks):
            await any_store.put(blob_id, seq, content)
        assert await any_store.get(blob_id, [2, 0, 1, 0]) == [chunks[seq] for seq in (2, 0, 1, 0)]
        assert all(type(content) is bytes for content in await any_store.get(blob_id, [0, 1]))
        assert await any_store.get(blob_id, []) == []

    async def test_chunks_may_be_written_in_any_order(self, any_store):
        blob_id = await begun(any_store)
        for seq in (2, 0, 1):
            await any_store.put(blob_id, seq, b"%d" % seq)
        assert await any_store.get(blob_id, range(3)) == [b"0", b"1", b"2"]

    async def test_a_chunk_written_several_times_at_once_is_one_chunk(self, any_store):
        blob_id = await begun(any_store)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(any_store.put, blob_id, 0, b"the same")
        await any_store.put(blob_id, 0, b"the same")
        assert await any_store.get(blob_id, [0]) == [b"the same"]

    async def test_a_chunk_that_is_not_there_is_missing(self, any_store):
        blob_id = await begun(any_store)
        for seq in range(2):
            await any_store.put(blob_id, seq, b"x")
        for absent, seqs in [(blob_id, [0, 1, 2]), (blob_id, [2]), (uuid4(), [0])]:
            with pytest.raises(BlobMissing) as raised:
                await any_store.get(absent, seqs)
            assert raised.value.blob_id == absent

    async def test_chunks_of_one_blob_are_not_those_of_another(self, any_store):
        blobs = [await begun(any_store) for _ in range(3)]
        for blob_id in blobs:
            await any_store.put(blob_id, 0, blob_id.bytes)
        for blob_id in blobs:
            assert await any_store.get(blob_id, [0]) == [blob_id.bytes]

    async def test_the_database_takes_no_chunk_of_a_blob_without_a_row(self, database):
        blob_id = uuid4()
        with pytest.raises(BlobMissing) as raised:
            await PostgresStore(caller(database)).put(blob_id, 0, b"x")
        assert raised.value.blob_id == blob_id


class TestDiscarding:
    async def test_a_chunk_written_twice_is_one_object(self, store):
        blob_id = await saved(store)
        await store.put(blob_id, 0, b"x" * 10)
        assert (await listed(store))[blob_id].objects == 1

    async def test_a_discarded_blob_is_gone_and_others_are_not(self, store):
        kept, *gone = [await saved(store, chunks=3) for _ in range(4)]
        await store.discard([*gone, *gone, uuid4()])
        await store.discard(gone)
        assert set(await listed(store)) == {kept}
        assert len(await store.get(kept, range(3))) == 3
        with pytest.raises(BlobMissing):
            await store.get(gone[0], [0])

    async def test_a_discarded_blob_leaves_no_folder_behind(self, tmp_path):
        store = ObjectStore.from_url(tmp_path.as_uri())
        await store.discard([await saved(store, chunks=3)])
        assert list(tmp_path.iterdir()) == []

    async def test_two_may_discard_the_same_blobs_at_once(self, store):
        blobs = [await saved(store, chunks=40) for _ in range(4)]
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(store.discard, blobs)
        assert await listed(store) == {}


class TestListing:
    async def test_tells_of_each_blob_its_size_and_its_newest_time(self, store):
        before = datetime.now(UTC) - timedelta(minutes=1)
        one, two = await saved(store, chunks=3, size=100), await saved(store)
        blobs = await listed(store)
        assert (blobs[one].objects, blobs[one].size) == (3, 300)
        assert (blobs[two].objects, blobs[two].size) == (1, 10)
        assert before < blobs[one].modified < before + timedelta(minutes=2)

    async def test_objects_of_others_are_neither_listed_nor_deleted(self, store):
        for key in KEYS_OF_OTHERS:
            await trio.to_thread.run_sync(store._store.put, key, b"of others")
        blob_id = await saved(store)
        (own,) = {meta["path"] for meta in store._store.list().collect()} - {*KEYS_OF_OTHERS}
        beside = own.replace("/0", "/of-somebody-else")
        store._store.put(beside, b"of others")
        assert set(await listed(store)) == {blob_id}
        await store.discard([blob_id, UUID("00000000-0000-7000-8000-000000000000")])
        left = {meta["path"] for meta in store._store.list().collect()}
        assert left == {*KEYS_OF_OTHERS, beside}

    async def test_what_others_keep_on_the_disk_does_no_harm(self, tmp_path):
        (tmp_path / "loop").symlink_to(".")
        (tmp_path / "nowhere").symlink_to("/nowhere")
        (tmp_path / "a#1 %{}").touch()
        (tmp_path / os.fsdecode(b"\xff\xfe")).touch()
        store = ObjectStore.from_url(tmp_path.as_uri())
        blob_id = await saved(store)
        assert set(await listed(store)) == {blob_id}

    async def test_a_blob_of_many_pages_is_listed_once(self):
        store = ObjectStore(MemoryStore())
        blobs = [await saved(store, chunks) for chunks in (2500, 1, 1000)]
        async with aclosing(store.blobs()) as listing:
            found = [(blob.id, blob.objects) async for blob in listing]
        assert sorted(found) == sorted(zip(blobs, (2500, 1, 1000), strict=True))

    async def test_a_page_of_objects_of_others_is_not_the_end(self):
        store = ObjectStore(MemoryStore())
        blob_id = await saved(store)
        (own,) = store._store.list().collect()
        for number in range(1500):
            store._store.put(f"{own['path'][0]}/-{number}", b"of others")
        assert set(await listed(store)) == {blob_id}

    async def test_ids_of_one_moment_are_spread(self, tmp_path):
        store = ObjectStore.from_url(tmp_path.as_uri())
        first = UUID("0197f000-0000-7000-8000-000000000000")
        for number in range(100):
            await store.put(UUID(int=first.int + number), 0, b"")
        assert len(list(tmp_path.iterdir())) > 10


class TestSweep:
    async def test_deletes_what_is_old_and_has_no_row(self, store):
        kept, *orphans = [await saved(store, chunks=2) for _ in range(3)]
        assert await sweep(store, rows(kept)) == Swept(young=3)
        expected = Swept(kept=1, removed=2, removed_objects=4, removed_bytes=40)
        assert await sweep(store, rows(kept), now=LATER, dry_run=True) == expected
        assert set(await listed(store)) == {kept, *orphans}
        assert await sweep(store, rows(kept), now=LATER) == expected
        assert set(await listed(store)) == {kept}
        assert await sweep(store, rows(kept), now=LATER) == Swept(kept=1)

    async def test_asks_for_rows_in_batches(self):
        store = ObjectStore(MemoryStore())
        blobs = [await saved(store) for _ in range(1500)]
        asked: list[UUID] = []
        sizes: list[int] = []

        async def exists(ids: Sequence[UUID]) -> Collection[UUID]:
            sizes.append(len(ids))
            asked.extend(ids)
            return ids[:1]

        swept = await sweep(store, exists, now=LATER)
        assert sizes == [1000, 500]
        assert sorted(asked) == sorted(blobs)
        assert (swept.kept, swept.removed) == (2, 1498)
        assert len(await listed(store)) == 2

    async def test_two_may_go_on_at_once(self, store):
        kept, *_ = [await saved(store, chunks=2) for _ in range(10)]
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(lambda: sweep(store, rows(kept), now=LATER))
        assert set(await listed(store)) == {kept}

    async def test_one_that_was_interrupted_is_taken_up_by_the_next(self, store):
        for _ in range(4):
            await saved(store, chunks=3)
        with trio.CancelScope() as scope:

            async def exists(_: Sequence[UUID]) -> Collection[UUID]:
                scope.cancel()
                return ()

            await sweep(store, exists, now=LATER)
        assert scope.cancelled_caught
        await sweep(store, rows(), now=LATER)
        assert await listed(store) == {}

    async def test_an_upload_that_goes_on_keeps_all_of_its_blob(self, tmp_path):
        store = ObjectStore.from_url(tmp_path.as_uri())
        blob_id = await saved(store, chunks=3)
        made_old(tmp_path)
        await store.put(blob_id, 3, b"just now")
        assert await sweep(store, rows()) == Swept(young=1)
        assert len(await store.get(blob_id, range(4))) == 4

    async def test_a_blob_that_is_written_while_rows_are_looked_up_stays(self, tmp_path):
        store = ObjectStore.from_url(tmp_path.as_uri())
        blob_id = await saved(store, chunks=2)
        made_old(tmp_path)

        async def exists(_: Sequence[UUID]) -> Collection[UUID]:
            await store.put(blob_id, 1, b"again")
            return ()

        await sweep(store, exists)
        assert len(await store.get(blob_id, [0, 1])) == 2

    async def test_a_grace_period_that_uploads_may_exceed_is_refused(self, store):
        with pytest.raises(ValueError, match="at least an hour"):
            await sweep(store, rows(), older_than=timedelta(minutes=59))

    async def test_what_fails_deletes_nothing(self, store):
        blob_id = await saved(store)

        async def exists(_: Sequence[UUID]) -> Collection[UUID]:
            raise OSError("no database")

        with pytest.raises(OSError, match="no database"):
            await sweep(store, exists, now=LATER)
        assert set(await listed(store)) == {blob_id}


async def everything(store: ObjectStore) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    yield lambda: store.put(uuid4(), 0, b"x")
    yield lambda: store.get(uuid4(), [0, 1])
    yield lambda: store.discard([uuid4()])
    yield lambda: listed(store)


async def failures(store: ObjectStore) -> list[str]:
    """The texts, tracebacks and all, of all that fails: each within a time that is bounded."""
    texts = []
    async for call in everything(store):
        with trio.fail_after(15), pytest.raises(ObjectStoreError) as raised:
            await call()
        assert raised.value.__cause__ is raised.value.__context__ is None
        assert len(str(raised.value)) < 300
        texts.append("".join(traceback.format_exception(raised.value)))
    return texts


class TestFailures:
    async def test_a_server_that_was_killed_is_a_passing_error(self, s3):
        store = s3_store(s3.endpoint, **HASTY)
        s3.kill()
        for text in await failures(store):
            assert "Connection refused, no connection" in text

    async def test_a_frozen_server_is_a_passing_error_and_works_again_when_thawed(self, s3):
        store = s3_store(s3.endpoint, **HASTY)
        s3.freeze()
        for text in await failures(store):
            assert "no answer in time" in text
        s3.thaw()
        patient = ObjectStore(
            from_url(f"s3://{BUCKET}", endpoint=s3.endpoint, **CREDENTIALS, **PATIENT)
        )
        blob_id = await saved(patient)
        assert await patient.get(blob_id, [0]) == [b"x" * 10]

    async def test_a_bucket_that_is_not_there_is_no_missing_blob(self, running_s3):
        for text in await failures(s3_store(running_s3.endpoint, "elsewhere", **PATIENT)):
            assert "404 Not Found, NoSuchBucket" in text

    async def test_refused_credentials_are_named_but_not_told(self):
        with s3_server(guarded=True) as server:
            for text in await failures(s3_store(server.endpoint, **PATIENT)):
                assert "403 Forbidden, InvalidAccessKeyId" in text
                assert CREDENTIALS["access_key_id"] not in text

    async def test_a_server_that_repeats_the_request_does_not_make_it_known(self, answering):
        async def repeat(request: bytes) -> bytes:
            return response("403 Forbidden", b"<Error><Code>Stolen</Code>" + request)

        store = s3_store(await answering(repeat), session_token="the-token", **HASTY)
        for text in await failures(store):
            assert "403 Forbidden, Stolen" in text
            assert not any(secret in text for secret in [*CREDENTIALS.values(), "the-token"])
            assert "Signature" not in text

    @pytest.mark.parametrize(
        ("answer", "told"),
        [
            (response("503 Slow Down", b"<Code>SlowDown</Code>"), "503 Service Un.*, SlowDown"),
            (response("429 Too Many Requests"), "429 Too Many Requests"),
            (response("500 Internal Server Error"), "500 Internal Server Error"),
            (response("401 Unauthorized"), "401 Unauthorized"),
            (response("400 Bad Request", b"<Code>ExpiredToken</Code>"), "400 .*ExpiredToken"),
            (response("301 Moved Permanently"), "the bucket is in another region"),
            (b"SSH-2.0-OpenSSH\r\n", "cannot"),
            (b"", "cannot"),
        ],
    )
    async def test_any_other_answer_is_a_passing_error(self, answering, answer, told):
        store = s3_store(await answering(always(answer)), **HASTY)
        for text in await failures(store):
            assert re.search(told, text)

    async def test_a_chunk_that_breaks_off_is_not_given(self, answering):
        head = response(
            "200 OK", b"x" * 100, 'ETag: "x"', "Last-Modified: Tue, 01 Jul 2025 00:00:00 GMT"
        )
        store = s3_store(await answering(always(head[:-50])), **HASTY)
        with pytest.raises(ObjectStoreError):
            await store.get(uuid4(), [0])

    async def test_a_panic_of_the_library_is_a_passing_error(self):
        for text in await failures(s3_store("no url", **HASTY)):
            assert "the endpoint is not a URL" in text

    async def test_http_has_to_be_allowed(self, running_s3):
        with pytest.raises(ObjectStoreError, match="AWS_ALLOW_HTTP=true"):
            await s3_store(running_s3.endpoint).put(uuid4(), 0, b"")

    async def test_a_folder_that_is_gone_is_not_made_again(self, tmp_path):
        folder = tmp_path / "mounted"
        folder.mkdir()
        store = ObjectStore.from_url(folder.as_uri())
        folder.rmdir()
        for text in await failures(store):
            assert "its folder does not exist" in text
        assert not folder.exists()

    async def test_the_disk_has_a_chunk_and_its_folders_before_it_counts(
        self, tmp_path, monkeypatch
    ):
        flushed = []

        def fsync(descriptor: int) -> None:
            flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink())
            real(descriptor)

        real = os.fsync
        monkeypatch.setattr(os, "fsync", fsync)
        await saved(ObjectStore.from_url(tmp_path.as_uri()))
        assert set(flushed) == {tmp_path, *tmp_path.rglob("*")}

    async def test_the_disk_says_why_it_fails(self, tmp_path):
        for digit in "0123456789abcdef":
            (tmp_path / digit).touch()
        store = ObjectStore.from_url(tmp_path.as_uri())
        with pytest.raises(ObjectStoreError, match="Not a directory"):
            await store.put(uuid4(), 0, b"x")


class TestThreads:
    async def test_a_call_that_is_cancelled_returns_at_once(self, s3):
        store = s3_store(s3.endpoint, **PATIENT)
        s3.freeze()
        async for call in everything(store):
            with trio.fail_after(5), trio.move_on_after(0.05) as scope:
                await call()
            assert scope.cancelled_caught
        s3.thaw()

    async def test_the_event_loop_goes_on_meanwhile(self, s3):
        store = s3_store(s3.endpoint, **PATIENT)
        s3.freeze()
        blob_id = uuid4()
        with trio.fail_after(15):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.put, blob_id, 0, b"x")
                await trio.testing.wait_all_tasks_blocked(0.1)
                s3.thaw()  # nobody would, if the loop stood still
            assert await store.get(blob_id, [0]) == [b"x"]

    async def test_handlers_that_hold_all_threads_of_trio_are_not_waited_for(self, store):
        limiter = trio.to_thread.current_default_thread_limiter()
        for number in range(int(limiter.total_tokens)):
            limiter.acquire_on_behalf_of_nowait(number)
        with trio.fail_after(10):
            await store.get(await saved(store), [0])
        for number in range(int(limiter.total_tokens)):
            limiter.release_on_behalf_of(number)

    async def test_no_more_requests_than_allowed_are_under_way(self, answering):
        under_way = [0]

        async def late(_: bytes) -> bytes:
            under_way.append(under_way[-1] + 1)
            await trio.testing.wait_all_tasks_blocked(0.02)
            under_way.append(under_way[-1] - 1)
            return response("200 OK", b"", 'ETag: "x"')

        store = s3_store(await answering(late), parallel=3, **PATIENT)
        async with trio.open_nursery() as nursery:
            for seq in range(12):
                nursery.start_soon(store.put, uuid4(), seq, b"x")
        assert max(under_way) == 3

    async def test_sixty_four_megabytes_go_there_and_back(self, store):
        blob_id = uuid4()
        content = os.urandom(MB)
        threads = threading.active_count()
        async with trio.open_nursery() as nursery:
            for seq in range(64):
                nursery.start_soon(store.put, blob_id, seq, content)
        assert await store.get(blob_id, range(64)) == [content] * 64
        assert threading.active_count() <= threads + 8

    def test_a_run_that_was_left_takes_no_place_from_the_next(self, s3):
        store = s3_store(s3.endpoint, parallel=1, **PATIENT)
        s3.freeze()

        async def leave() -> None:
            with trio.move_on_after(0.1):
                await store.put(uuid4(), 0, b"x")

        async def work() -> list[bytes]:
            with trio.fail_after(15):
                return await store.get(await saved(store), [0])

        trio.run(leave)
        s3.thaw()
        assert trio.run(work) == [b"x" * 10]


class TestSetup:
    async def test_credentials_come_from_the_environment(self, running_s3, monkeypatch):
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(f"AWS_{name.upper()}", value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", running_s3.endpoint)
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        store = ObjectStore.from_url(f"s3://{BUCKET}/deep/prefix")
        assert await store.get(await saved(store), [0]) == [b"x" * 10]

    async def test_no_credentials_at_all_is_told_as_that(self, monkeypatch):
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
        for text in await failures(ObjectStore.from_url(f"s3://{BUCKET}", **HASTY)):
            assert "no credentials in the environment" in text

    @pytest.mark.parametrize(
        ("url", "told"),
        [
            ("bucket", "s3://"),
            ("http://host/bucket", "s3://"),
            ("memory:///", "s3://"),
            ("s3://", "the name of a bucket"),
            ("s3:///prefix", "the name of a bucket"),
            ("s3://host:9000/bucket", "the name of a bucket"),
            ("s3://user:secret@bucket", "no user"),
            ("s3://bucket?secret", "no user"),
            ("s3://bucket#secret", "no user"),
            ("s3://[secret", "cannot be parsed"),
            ("s3://bucket//prefix", "cannot be used"),
            ("file://folder", "absolute path"),
            ("file:///", "absolute path"),
            ("file:///nowhere/at/all", "is not a folder"),
        ],
    )
    def test_a_url_that_cannot_be_is_refused_and_not_quoted(self, url, told):
        with pytest.raises(ValueError, match=told) as raised:
            ObjectStore.from_url(url)
        assert "secret" not in "".join(traceback.format_exception(raised.value, limit=0))

    @pytest.mark.parametrize("mode", [0o777, 0o757, *([0o770] if os.geteuid() == 0 else [])])
    def test_a_folder_that_others_may_write_to_is_refused(self, tmp_path, mode):
        ObjectStore.from_url(f"file://{tmp_path}")
        tmp_path.chmod(mode)
        with pytest.raises(ValueError, match=r"could put links in it .*: run `chmod g?o-w`"):
            ObjectStore.from_url(f"file://{tmp_path}")

    def test_a_folder_in_whose_place_everybody_could_put_another_is_refused(self, tmp_path):
        folder = tmp_path / "objects"
        folder.mkdir()
        tmp_path.chmod(0o777)
        with pytest.raises(ValueError, match=r"could put another folder in the place of"):
            ObjectStore.from_url(f"file://{folder}")
        tmp_path.chmod(0o1777)
        ObjectStore.from_url(f"file://{folder}")

    @pytest.mark.parametrize("depth", [0, 1, 2])
    async def test_no_chunk_goes_through_a_link_that_a_member_of_the_group_has_put_there(
        self, tmp_path, depth
    ):
        folder, elsewhere = tmp_path / "objects", tmp_path / "elsewhere"
        folder.mkdir()
        blob_id = new_id()
        store = ObjectStore.from_url(f"file://{folder}")
        await store.put(blob_id, 0, b"ours")
        (chunk,) = [path for path in folder.rglob("*") if path.is_file()]
        planted = [*chunk.relative_to(folder).parents[-2::-1], chunk.relative_to(folder)][depth]
        (folder / planted).rename(elsewhere)
        (folder / planted).symlink_to(elsewhere)
        for call in (
            store.put(blob_id, 0, b"mine"),
            store.get(blob_id, [0]),
            store.discard([blob_id]),
        ):
            with pytest.raises(ObjectStoreError, match="a link has replaced a chunk"):
                await call
        assert chunk.read_bytes() == b"ours"

    @pytest.mark.parametrize(
        ("url", "options", "told"),
        [
            ("s3://bucket", {"regoin": "eu"}, "'regoin' is not valid"),
            ("s3://bucket", {"access_key_id": "secret"}, "Missing SecretAccessKey"),
            ("s3://bucket", {"skip_signature": 'a"secret'}, "failed to parse .* as boolean"),
            ("az://container", {}, "Account must be specified"),
            ("az://container", {"account_name": "a", "sas_token": "secret"}, "SAS"),
            ("file:///usr", {"region": "eu"}, "region"),
        ],
    )
    def test_an_option_that_cannot_be_is_refused_and_not_quoted(self, url, options, told):
        with pytest.raises(ValueError, match=told) as raised:
            ObjectStore.from_url(url, **options)
        assert "secret" not in str(raised.value)
        assert raised.value.__cause__ is raised.value.__context__ is None

    def test_what_is_printed_of_a_store_holds_no_credential(self):
        printed = repr(s3_store("http://127.0.0.1:1"))
        assert BUCKET in printed
        assert not any(secret in printed for secret in CREDENTIALS.values())

    def test_the_library_is_loaded_by_those_who_use_it_only(self):
        loaded = "import sys, blobstore.objects; sys.exit('obstore' in sys.modules)"
        subprocess.run([sys.executable, "-c", loaded], check=True)

    def test_a_library_that_is_not_installed_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "obstore", None)
        with pytest.raises(ImportError, match=r"pip install 'pgflow-events\[objects\]'"):
            ObjectStore.from_url("s3://bucket")
