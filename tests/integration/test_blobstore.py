"""Values on their way through real tables."""

import random
import threading
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from blobstore import Blob, BlobDamaged, BlobMissing, Blobs, Inline, PostgresStore, codec
from pgflow_events.connection import Connection

MIB = 1024 * 1024
PAGE = "".join(f"<p id='p{n}'>Ärger im Büro {n * n}</p>\n" for n in range(5_000))

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


class Database:
    """A database with one run, and connections to lend."""

    def __init__(self, conninfo: str) -> None:
        self.conninfo = conninfo
        self.lent = 0

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[Connection[Any]]:
        self.lent += 1
        async with await Connection.connect(self.conninfo) as connection:
            yield connection

    async def query(self, statement: str, *parameters: object) -> list[Any]:
        async with self.lend() as connection:
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchall() if cursor.description else []

    async def new_run(self) -> UUID:
        ((run_id,),) = await self.query("select run_id from pgflow.start_flow('pages', '{}')")
        return run_id

    async def saved(self, value: object) -> UUID:
        """The id of a value that another worker has stored."""
        blobs = Blobs(threshold=0)
        blob = await blobs.encode(value)
        assert isinstance(blob, Blob)
        async with self.lend() as connection:
            await blobs.save(connection, [(await self.new_run(), blob)])
        return blob.id

    async def load(self, ids: Collection[UUID], blobs: Blobs | None = None) -> Any:
        return await (blobs or Blobs()).load(self.lend, ids)


@pytest.fixture
async def store(database: str) -> Database:
    made = Database(database)
    async with made.lend() as connection:
        await connection.execute("select pgflow.create_flow('pages')")
        await connection.execute("select pgflow.add_step('pages', 'fetch')")
    return made


def without_order(value: Any) -> str:
    """A repr that tells types apart, but not the order of keys, which jsonb does not keep."""
    if type(value) is dict:
        return repr(sorted((key, without_order(inner)) for key, inner in value.items()))
    return repr(list(map(without_order, value)) if type(value) is list else value)


def test_what_stays_inline_comes_back_exactly_from_jsonb(db):
    @settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
    @given(json_values)
    def comes_back(value: Any) -> None:
        inline = codec.serialize(value, threshold=8192, cap=MIB)
        if isinstance(inline, Inline):
            parameter = Jsonb(inline.json, dumps=lambda ready: ready)
            (stored,) = db.execute("select %b::jsonb", [parameter]).fetchone()
            assert without_order(stored) == without_order(value)

    comes_back()


@pytest.mark.parametrize(
    "number",
    [0.0, 1.0, -1e15, 9999999999999998.0, 123456.0, 0.1, 1e-7, 5e-324, 2.5e-308, 2**64 - 1],
)
def test_a_number_inline_keeps_its_type_and_value_in_jsonb(db, number):
    inline = codec.serialize([number], threshold=8192, cap=MIB)
    assert isinstance(inline, Inline)
    parameter = Jsonb(inline.json, dumps=lambda ready: ready)
    assert repr(db.execute("select %b::jsonb", [parameter]).fetchone()[0]) == repr([number])


@pytest.mark.parametrize(
    "value",
    [
        PAGE,
        PAGE.encode(),
        [{"page": PAGE, "n": 1.0}],
        "",
        b"",
        {},
        [],
        None,
        0,
        False,
        "a\0b",
        -0.0,
        1e16,
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_a_blob_comes_back_equal_and_of_the_same_type(store, value):
    blob_id = await store.saved(value)
    loaded = await store.load([blob_id])
    assert repr(await loaded.get(blob_id)) == repr(value)


async def test_what_a_sql_caller_completes_with_is_read_alike(store):
    value = {"html": PAGE, "title": "Büro", "n": [1, 2.5, None]}
    run_id = await store.new_run()
    await store.query("select from pgflow.complete_task(%s, 'fetch', 0, %s)", run_id, Jsonb(value))
    ((blob_id,),) = await store.query(
        "select id from pgflow.output_blobs where run_id = %s", run_id
    )
    loaded = await store.load([blob_id])
    assert await loaded.get(blob_id) == value


async def test_a_value_as_large_as_the_default_cap_goes_there_and_back(store):
    value = random.Random(1).randbytes(64 * MIB)
    blob_id = await store.saved(value)
    loaded = await store.load([blob_id])
    assert await loaded.get(blob_id) == value


async def test_blobs_of_many_megabytes_are_saved_together(store):
    blobs = Blobs(cache_budget=0)
    run_id = await store.new_run()
    values = [f"{n}".encode() * size for n, size in enumerate([MIB, 10, 5 * MIB, MIB, 3 * MIB, 10])]
    made = [await blobs.encode(value) for value in values]
    plain = [
        replace(blob, codec="none", content=value) for blob, value in zip(made, values, strict=True)
    ]
    async with store.lend() as connection, connection.transaction():
        await blobs.save(connection, [(run_id, blob) for blob in plain])
    loaded = await store.load([blob.id for blob in plain])
    assert [await loaded.get(blob.id) for blob in plain] == values


async def test_a_rollback_leaves_no_blob(store):
    blobs = Blobs()
    run_id = await store.new_run()
    async with store.lend() as connection:
        async with connection.transaction(force_rollback=True):
            await blobs.save(connection, [(run_id, await blobs.encode(PAGE))])
            assert await counted(connection) == 1
        assert await counted(connection) == 0


async def counted(connection: Connection[Any]) -> int:
    cursor = await connection.execute("select count(*)::int from pgflow.output_blobs")
    ((count,),) = await cursor.fetchall()
    return count


async def test_saving_a_blob_again_after_a_lost_answer_is_no_error(store):
    blobs = Blobs()
    saved = [(await store.new_run(), await blobs.encode(PAGE))]
    async with store.lend() as connection:
        await blobs.save(connection, saved)
        await blobs.save(connection, saved)
        assert await counted(connection) == 1


async def test_a_blob_goes_with_its_run_and_never_stands_without_one(store):
    blobs = Blobs()
    run_id = await store.new_run()
    blob = await blobs.encode(PAGE)
    async with store.lend() as connection:
        await blobs.save(connection, [(run_id, blob)])
        await connection.execute("delete from pgflow.runs where run_id = %s", [run_id])
        assert await counted(connection) == 0
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            await blobs.save(connection, [(run_id, blob)])


async def test_two_who_saved_blobs_of_one_run_do_not_wait_for_each_other_to_complete(store):
    blobs = Blobs()
    run_id = await store.new_run()
    async with store.lend() as first, store.lend() as second:
        for connection in (first, second):
            await connection.execute("begin; set local lock_timeout = '2s'")
            await blobs.save(connection, [(run_id, await blobs.encode(PAGE))])
        for connection in (first, second):
            await connection.execute(
                "select from pgflow.complete_task(%s, 'fetch', 0, '1')", [run_id]
            )
            await connection.commit()


async def test_all_blobs_of_a_load_come_with_one_query(store):
    class Recorder(psycopg.AsyncCursor[Any]):
        async def execute(self, *args: Any, **options: Any) -> Any:
            executed.append(args)
            return await super().execute(*args, **options)

    executed: list[Any] = []
    ids = [await store.saved(f"{n}{PAGE}") for n in range(5)]
    async with store.lend() as connection:
        connection.cursor_factory = Recorder
        loaded = await Blobs().load(partial(nullcontext, connection), [*ids, ids[0]])
    assert [(await loaded.get(blob_id))[0] for blob_id in ids] == list("01234")
    assert len(executed) == 1


async def test_what_this_worker_wrote_or_read_costs_no_query(store):
    blobs = Blobs()
    read_id = await store.saved(PAGE)
    await (await store.load([read_id], blobs)).get(read_id)
    wrote = await blobs.encode([PAGE])
    store.lent = 0
    loaded = await store.load([read_id, wrote.id], blobs)
    assert (await loaded.get(read_id), await loaded.get(wrote.id)) == (PAGE, [PAGE])
    assert store.lent == 0


async def test_a_connection_is_given_back_before_anything_is_decompressed(store):
    blob_id = await store.saved(PAGE)
    await store.query("update pgflow.output_blobs set content = ''")
    loaded = await store.load([blob_id])  # damage would be noticed here
    with pytest.raises(BlobDamaged):
        await loaded.get(blob_id)


async def test_a_missing_and_a_damaged_blob_do_not_spoil_the_others(store):
    sound, damaged, newer = [await store.saved(f"{n}{PAGE}") for n in range(3)]
    missing = uuid4()
    await store.query(
        r"update pgflow.output_blobs set content = overlay(content placing '\xdeadbeef' from 99)"
        " where id = %s",
        damaged,
    )
    await store.query("update pgflow.output_blobs set codec = 'zstd9' where id = %s", newer)
    loaded = await store.load([missing, damaged, newer, sound])
    with pytest.raises(BlobMissing, match=str(missing)):
        await loaded.get(missing)
    for _ in range(2):
        with pytest.raises(BlobDamaged, match=str(damaged)):
            await loaded.get(damaged)
    with pytest.raises(BlobDamaged, match=r"'zstd9'.*newer release"):
        await loaded.get(newer)
    assert await loaded.get(sound) == f"0{PAGE}"


async def test_each_reader_gets_a_list_of_its_own(store):
    blobs = Blobs(threshold=0)
    mine = [{"n": 1}]
    blob = await blobs.encode(mine)
    mine[0]["n"] = 2
    loaded = await store.load([blob.id], blobs)
    first = await loaded.get(blob.id)
    first[0]["n"] = 3
    assert await loaded.get(blob.id) == [{"n": 1}]


async def test_readers_at_the_same_time_share_one_decompression(store):
    blob_id = await store.saved(PAGE)
    loaded = await store.load([blob_id])
    pages = []

    async def read() -> None:
        pages.append(await loaded.get(blob_id))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(read)
    assert pages[0] == PAGE
    assert all(page is pages[0] for page in pages)


async def test_a_blob_that_left_the_cache_after_the_load_is_still_there(store):
    blobs = Blobs(cache_budget=2 * len(PAGE.encode()))
    blob = await blobs.encode(PAGE)
    loaded = await store.load([blob.id], blobs)
    for n in range(5):
        await blobs.encode(f"{n}{PAGE}")
    assert await loaded.get(blob.id) == PAGE


@pytest.mark.parametrize(
    ("value", "in_a_thread"),
    [("x" * 200_000, False), ("x" * 300_000, True)],
    ids=["200 kB", "300 kB"],
)
async def test_only_what_takes_a_while_goes_to_a_thread(store, monkeypatch, value, in_a_thread):
    threads = []

    def compress(raw: bytes) -> bytes:
        threads.append(threading.current_thread())
        return zstd.compress(raw)

    def decompress(content: bytes, raw_size: int) -> bytes:
        threads.append(threading.current_thread())
        return zstd.decompress(content, raw_size)

    zstd = codec.CODECS["zstd"]
    monkeypatch.setitem(codec.CODECS, "zstd", codec.Codec(compress, decompress))
    blob_id = await store.saved(value)
    assert await (await store.load([blob_id])).get(blob_id) == value
    assert [thread is not threading.main_thread() for thread in threads] == [in_a_thread] * 2


async def test_everything_is_a_checkpoint(store):
    blobs = Blobs(threshold=0)
    with trio.testing.assert_checkpoints():
        await Blobs().encode(1)
    with trio.testing.assert_checkpoints():
        blob = await blobs.encode(1)
    with trio.testing.assert_checkpoints():
        loaded = await store.load([blob.id], blobs)
    with trio.testing.assert_checkpoints():
        await loaded.get(blob.id)


async def test_a_store_of_ones_own_takes_the_place_of_the_table(store):
    class Spy(PostgresStore):
        fetched = 0

        async def fetch(self, connection: Any, ids: Any) -> Any:
            self.fetched += 1
            return await super().fetch(connection, ids)

    spy = Spy()
    blob_id = await store.saved(PAGE)
    loaded = await Blobs(spy).load(store.lend, [blob_id])
    assert await loaded.get(blob_id) == PAGE
    assert spy.fetched == 1
