"""Values on their way through real tables."""

import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID, uuid4

import psycopg
import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from blobstore import (
    BlobDamaged,
    BlobMissing,
    Blobs,
    BlobUnavailable,
    Inline,
    Owner,
    Stored,
    ValueTooLarge,
)
from blobstore.values import codec
from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.pool import Pool

T = TypeVar("T")

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
    """A database with one flow, and connections to make calls on."""

    def __init__(self, pool: Pool) -> None:
        self.lend = pool.connection
        self.calls = 0

    async def make(self, call: Callable[[Connection], Awaitable[T]]) -> T:
        self.calls += 1
        async with self.lend() as connection:
            return await call(connection)

    def blobs(self, **options: Any) -> Blobs:
        return Blobs(self.make, **options)

    async def query(self, statement: str, *parameters: object) -> list[Any]:
        async with self.lend() as connection:
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchall() if cursor.description else []

    async def owner(self) -> Owner:
        """A step of a new run, in its first attempt."""
        ((run_id,),) = await self.query("select run_id from pgflow.start_flow('pages', '{}')")
        await self.query("update pgflow.step_tasks set attempts_count = 1, started_at = now()")
        return Owner(run_id, "fetch", attempt=1)

    async def save(self, *values: object, **options: Any) -> list[Stored]:
        """Values that another worker has stored."""
        blobs = self.blobs(**{"threshold": 0} | options)
        owner = await self.owner()
        stored = [await blobs.encode(value, owner) for value in values]
        async with self.lend() as connection, connection.transaction():
            await blobs.save(connection, stored)
        return stored

    async def saved(self, value: object, **options: Any) -> UUID:
        """The id of one of them."""
        (stored,) = await self.save(value, **options)
        return stored.id

    async def get(self, blob_id: UUID, **options: Any) -> Any:
        """A value, as another worker reads it."""
        return await (await self.blobs(**options).load([blob_id])).get(blob_id)


@pytest.fixture
async def store(database: str) -> AsyncIterator[Database]:
    async with Pool(database) as pool:
        made = Database(pool)
        await made.query("select pgflow.create_flow('pages')")
        await made.query("select pgflow.add_step('pages', 'fetch')")
        yield made


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
    assert repr(await store.get(await store.saved(value))) == repr(value)


CHUNK = 1000


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 7 * CHUNK, 7 * CHUNK + 1])
@pytest.mark.parametrize("kind", ["text", "bytes", "json"])
async def test_a_value_of_any_length_comes_back_from_its_chunks(store, kind, size):
    digits = "".join(random.Random(size).choices("0123456789", k=size))
    # JSON has two more bytes: its quotes are in the list.
    value = {"text": digits, "bytes": digits.encode(), "json": [digits[4:]]}[kind]
    blob_id = await store.saved(value, chunk_size=CHUNK)
    assert await store.get(blob_id) == value
    ((chunk_size, raw_size, written),) = await store.query(
        "select chunk_size, raw_size, (select count(*) from pgflow.blob_chunks)"
        " from pgflow.output_blobs"
    )
    assert raw_size == (max(size, 4) if kind == "json" else size)
    assert chunk_size == (CHUNK if size > CHUNK else None)
    assert written == (-(-size // CHUNK) if size > CHUNK else 0)


@pytest.mark.parametrize(
    "sizes", [[], [0], [0, 1, 0], [CHUNK], [CHUNK - 1, 1], [3 * CHUNK + 5], [7] * 600]
)
async def test_a_stream_of_pieces_of_any_length_comes_back_as_bytes(store, sizes):
    pieces = [random.Random(place).randbytes(size) for place, size in enumerate(sizes)]

    async def stream():
        for piece in pieces:
            yield piece

    blob_id = await store.saved(stream(), chunk_size=CHUNK)
    assert await store.get(blob_id) == b"".join(pieces)


async def test_ranges_are_read_from_their_chunks_only(store):
    value = random.Random(1).randbytes(5 * CHUNK + 17)
    blob_id = await store.saved(value, chunk_size=CHUNK)
    loaded = await store.blobs(cache_budget=0).load([], [blob_id])
    await store.query("delete from pgflow.blob_chunks where seq = 0")
    handle = loaded.handle(blob_id)
    for start, stop in ((CHUNK, CHUNK), (CHUNK, None), (3 * CHUNK - 1, 3 * CHUNK + 1), (-5, None)):
        assert await handle.read(start, stop) == value[start:stop]
    with pytest.raises(BlobMissing):
        await handle.read(CHUNK - 1, None)


LISTS = {
    "empty": [],
    "of small ones": [1, "two", None, {"three": [4]}],
    "of large ones": [PAGE, PAGE.encode(), [PAGE]],
    "of both": [None, PAGE, 0, PAGE, "", b"bytes", PAGE.encode()],
}


@pytest.mark.parametrize("value", LISTS.values(), ids=LISTS)
async def test_a_list_is_stored_by_its_elements_and_comes_back(store, value):
    blobs = store.blobs()
    stored = await blobs.encode(value, await store.owner(), by_element=True)
    async with store.lend() as connection:
        await blobs.save(connection, [stored])
    assert repr(await store.get(stored.id)) == repr(value)
    handle = (await store.blobs().load([], [stored.id])).handle(stored.id)
    assert [await handle.item(place) for place in range(len(value))] == value
    raw = sum({len(e.encode() if type(e) is str else e) for e in value if type(e) in (str, bytes)})
    assert handle.size >= raw


@pytest.mark.parametrize("kind", ["of another run", "a list"])
async def test_what_is_no_element_of_a_list_is_not_read_with_it(store, kind):
    """Nobody has counted what it takes."""
    blobs = store.blobs()
    owner = await store.owner()
    other = owner if kind == "a list" else await store.owner()
    one = await blobs.encode([PAGE], owner, by_element=True)
    two = await blobs.encode([PAGE + "!"], other, by_element=True)
    forged = two.id if kind == "a list" else two.rows[1].id
    async with store.lend() as connection:
        await blobs.save(connection, [one, two])
        await connection.execute(
            "update pgflow.output_blobs set elements = array[%s] where id = %s", [forged, one.id]
        )
    loaded = await store.blobs().load([one.id])
    with pytest.raises(
        BlobDamaged, match=f"its element {forged} is a list, or belongs to another run"
    ):
        await loaded.get(one.id)
    with pytest.raises(BlobDamaged, match="belongs to another run"):
        await loaded.handle(one.id).item(0)


async def test_what_a_sql_caller_completes_with_is_read_alike(store):
    value = {"html": PAGE, "title": "Büro", "n": [1, 2.5, None]}
    run_id = (await store.owner()).run_id
    await store.query("select from pgflow.complete_task(%s, 'fetch', 0, %s)", run_id, Jsonb(value))
    ((blob_id,),) = await store.query(
        "select id from pgflow.output_blobs where run_id = %s", run_id
    )
    assert await store.get(blob_id) == value


async def test_a_value_of_many_chunks_of_the_default_size_goes_there_and_back(store):
    value = random.Random(1).randbytes(64 * MIB + 1)
    blob_id = await store.saved(value)
    assert await store.query("select count(*) from pgflow.blob_chunks") == [(17,)]
    assert await store.get(blob_id) == value


async def test_a_value_over_the_cap_is_not_read_into_memory_but_as_a_stream(store):
    value = bytes(3 * CHUNK)
    blob_id = await store.saved(value, chunk_size=CHUNK)
    loaded = await store.blobs(cap=2 * CHUNK).load([blob_id], [blob_id])
    with pytest.raises(ValueTooLarge, match="take it as a handle"):
        await loaded.get(blob_id)
    async with loaded.handle(blob_id).open() as stream:
        assert b"".join([piece async for piece in stream]) == value


async def test_blobs_of_many_megabytes_are_saved_together(store):
    values = [
        random.Random(size).randbytes(size) for size in [MIB, 10, 3 * MIB, MIB + 1, 2 * MIB, 11]
    ]
    stored = await store.save(*values)
    blobs = store.blobs()
    loaded = await blobs.load([blob.id for blob in stored])
    assert [await loaded.get(blob.id) for blob in stored] == values


async def test_a_rollback_leaves_no_blob(store):
    blobs = store.blobs()
    stored = await blobs.encode(PAGE, await store.owner())
    async with store.lend() as connection:
        async with connection.transaction(force_rollback=True):
            await blobs.save(connection, [stored])
            assert await counted(connection) == 1
        assert await counted(connection) == 0


async def test_chunks_written_within_a_transaction_go_with_it(store):
    owner = Owner(uuid4())
    async with store.lend() as connection:
        async with connection.transaction(force_rollback=True):
            blobs = store.blobs(chunk_size=CHUNK)
            stored = await blobs.encode(PAGE, owner, connection=connection)
            await blobs.save(connection, [stored])
            assert await counted(connection) == 1
        assert await counted(connection) == 0
        assert await store.query("select from pgflow.blob_chunks") == []


# One goes through a pipeline, the others in a transaction that says so.
WAYS = {
    "in one round trip": (PAGE, MIB),
    "in chunks": (PAGE, CHUNK),
    "of megabytes": (random.Random(5).randbytes(4 * MIB + 1), 8 * MIB),
}


@pytest.mark.parametrize(("value", "chunk_size"), WAYS.values(), ids=WAYS)
async def test_a_blob_is_saved_with_what_follows_or_not_at_all(store, value, chunk_size):
    blobs = store.blobs(chunk_size=chunk_size)
    stored = await blobs.encode(value, await store.owner())
    finished = "select count(*) from pgflow.output_blobs where sha256 is not null"
    async with store.lend() as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            async with blobs.saved(connection, [stored]):
                await connection.execute("select 1 / 0")
        assert await store.query(finished) == [(0,)]
        async with blobs.saved(connection, [stored]):
            answer = await connection.execute("select txid_current()::text::xid")
        assert await store.query(
            "select xmin from pgflow.output_blobs where id = %s", stored.id
        ) == [await answer.fetchone()]
    assert await store.get(stored.id) == value


async def counted(connection: Connection) -> int:
    cursor = await connection.execute("select count(*)::int from pgflow.output_blobs")
    ((count,),) = await cursor.fetchall()
    return count


@pytest.mark.parametrize("chunk_size", [CHUNK, MIB], ids=["in chunks", "in a row"])
async def test_saving_a_blob_again_after_a_lost_answer_is_no_error(store, chunk_size):
    blobs = store.blobs(chunk_size=chunk_size)
    stored = await blobs.encode(PAGE, await store.owner())
    async with store.lend() as connection:
        await blobs.save(connection, [stored])
        await blobs.save(connection, [stored])
        assert await counted(connection) == 1
    assert await store.get(stored.id) == PAGE


async def test_calls_whose_answers_are_lost_and_are_made_again_store_a_blob_once(store):
    make = store.make

    async def twice(call):
        await make(call)
        return await make(call)

    store.make = twice
    blobs = store.blobs(chunk_size=CHUNK)
    stored = await blobs.encode(PAGE, await store.owner())
    async with store.lend() as connection:
        await blobs.save(connection, [stored])
    assert await store.get(stored.id) == PAGE


async def test_a_blob_goes_with_its_run(store):
    await store.save(PAGE, PAGE * 30)
    assert await store.query("select count(*) from pgflow.blob_chunks") == [(2,)]
    await store.query("delete from pgflow.runs")
    assert await store.query("select id from pgflow.output_blobs") == []
    assert await store.query("select from pgflow.blob_chunks") == []


async def test_an_upload_that_an_attempt_begins_too_late_is_refused_and_not_for_good(store):
    owner = await store.owner()
    await store.query("update pgflow.step_tasks set attempts_count = 2")
    with pytest.raises(BlobUnavailable, match="its attempt has lost the task"):
        await store.blobs(chunk_size=CHUNK).encode(PAGE, owner)
    assert await store.query("select from pgflow.output_blobs") == []


async def test_an_upload_whose_blob_is_deleted_half_way_is_given_up(store):
    pulled = []

    async def stream():
        for n in range(1000):
            pulled.append(n)
            if n == 10:
                await store.query("delete from pgflow.output_blobs")
            yield bytes(CHUNK)

    with pytest.raises(BlobUnavailable, match="disappeared while it was written"):
        await store.blobs(chunk_size=CHUNK).encode(stream(), await store.owner())
    assert len(pulled) < 20
    assert await store.query("select from pgflow.blob_chunks") == []


async def test_two_who_saved_blobs_of_one_run_do_not_wait_for_each_other_to_complete(store):
    blobs = store.blobs()
    owner = await store.owner()
    async with store.lend() as first, store.lend() as second:
        for connection in (first, second):
            await connection.execute("begin; set local lock_timeout = '2s'")
            await blobs.save(connection, [await blobs.encode(PAGE, owner)])
        for connection in (first, second):
            await connection.execute(
                "select from pgflow.complete_task(%s, 'fetch', 0, '1')", [owner.run_id]
            )
            await connection.commit()


async def test_all_blobs_of_a_load_come_with_one_query(store):
    class Recorder(psycopg.AsyncCursor[Any]):
        async def execute(self, *args: Any, **options: Any) -> Any:
            executed.append(args)
            return await super().execute(*args, **options)

    executed: list[Any] = []
    stored = await store.save(*[f"{n}{PAGE}" for n in range(5)])
    ids = [blob.id for blob in stored]
    async with store.lend() as connection:
        connection.cursor_factory = Recorder
        loaded = await Blobs(lambda call: call(connection)).load([*ids, ids[0]])
    assert [(await loaded.get(blob_id))[0] for blob_id in ids] == list("01234")
    assert len(executed) == 1


async def test_what_this_worker_wrote_or_read_costs_no_query(store):
    blobs = store.blobs()
    read_id = await store.saved(PAGE)
    await (await blobs.load([read_id])).get(read_id)
    wrote = await blobs.encode([PAGE], await store.owner())
    store.calls = 0
    loaded = await blobs.load([read_id, wrote.id])
    assert (await loaded.get(read_id), await loaded.get(wrote.id)) == (PAGE, [PAGE])
    assert store.calls == 0


async def test_a_connection_is_given_back_before_anything_is_decompressed(store):
    blob_id = await store.saved(PAGE)
    await store.query("update pgflow.output_blobs set content = ''")
    loaded = await store.blobs().load([blob_id])  # damage would be noticed here
    with pytest.raises(BlobDamaged):
        await loaded.get(blob_id)


async def test_a_missing_and_a_damaged_blob_do_not_spoil_the_others(store):
    stored = await store.save(*[f"{n}{PAGE}" for n in range(3)])
    sound, damaged, newer = [blob.id for blob in stored]
    missing = uuid4()
    await store.query(
        r"update pgflow.output_blobs set content = overlay(content placing '\xdeadbeef' from 99)"
        " where id = %s",
        damaged,
    )
    await store.query("update pgflow.output_blobs set codec = 'zstd9' where id = %s", newer)
    loaded = await store.blobs().load([missing, damaged, newer, sound])
    with pytest.raises(BlobMissing, match=str(missing)):
        await loaded.get(missing)
    for _ in range(2):
        with pytest.raises(BlobDamaged, match=str(damaged)):
            await loaded.get(damaged)
    with pytest.raises(BlobDamaged, match=r"'zstd9'.*newer release"):
        await loaded.get(newer)
    assert await loaded.get(sound) == f"0{PAGE}"


HARM = {
    "missing": ("delete from pgflow.blob_chunks where seq = 1", BlobMissing),
    "renamed": ("update pgflow.blob_chunks set seq = 5 - seq", BlobMissing),
    "swapped": (
        """
        update pgflow.blob_chunks c set content = o.content from pgflow.blob_chunks o
        where c.blob_id = o.blob_id and c.seq = 1 - o.seq
        """,
        BlobDamaged,
    ),
    "damaged": (
        r"update pgflow.blob_chunks set content = overlay(content placing '\xdeadbeef' from 99)",
        BlobDamaged,
    ),
    "shortened": ("update pgflow.output_blobs set raw_size = raw_size - 1", BlobDamaged),
}


@pytest.mark.parametrize(("harm", "error"), HARM.values(), ids=HARM)
async def test_harm_done_to_chunks_is_noticed(store, harm, error):
    blob_id = await store.saved(random.Random(1).randbytes(3 * CHUNK), chunk_size=CHUNK)
    await store.query(harm)
    with pytest.raises(error, match=str(blob_id)):
        await store.get(blob_id)


async def test_each_reader_gets_a_list_of_its_own(store):
    blobs = store.blobs(threshold=0)
    mine = [{"n": 1}]
    blob = await blobs.encode(mine, await store.owner())
    mine[0]["n"] = 2
    loaded = await blobs.load([blob.id])
    first = await loaded.get(blob.id)
    first[0]["n"] = 3
    assert await loaded.get(blob.id) == [{"n": 1}]


async def test_readers_at_the_same_time_share_one_decompression(store):
    blob_id = await store.saved(PAGE)
    loaded = await store.blobs().load([blob_id])
    pages = []

    async def read() -> None:
        pages.append(await loaded.get(blob_id))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(read)
    assert pages[0] == PAGE
    assert all(page is pages[0] for page in pages)


async def test_a_blob_that_left_the_cache_after_the_load_is_still_there(store):
    blobs = store.blobs(cache_budget=2 * len(PAGE.encode()))
    owner = await store.owner()
    blob = await blobs.encode(PAGE, owner)
    loaded = await blobs.load([blob.id])
    for n in range(5):
        await blobs.encode(f"{n}{PAGE}", owner)
    assert await loaded.get(blob.id) == PAGE


@pytest.mark.parametrize(
    ("value", "in_a_thread"),
    [("x" * 100_000, False), ("x" * 200_000, True)],
    ids=["100 kB", "200 kB"],
)
async def test_only_what_takes_a_while_goes_to_a_thread(store, monkeypatch, value, in_a_thread):
    threads = []
    originals = {name: getattr(codec, name) for name in ("compress", "decompress")}

    def noting(name: str) -> Callable[..., bytes]:
        def call(*args: Any) -> bytes:
            threads.append(threading.current_thread())
            return originals[name](*args)

        return call

    for name in originals:
        monkeypatch.setattr(codec, name, noting(name))
    assert await store.get(await store.saved(value)) == value
    assert [thread is not threading.main_thread() for thread in threads] == [in_a_thread] * 2


async def test_everything_is_a_checkpoint(store):
    blobs = store.blobs(threshold=0)
    owner = await store.owner()
    with trio.testing.assert_checkpoints():
        await store.blobs().encode("x" * 2000, owner)  # what is brief leaves at once
    with trio.testing.assert_checkpoints():
        blob = await blobs.encode(1, owner)
    with trio.testing.assert_checkpoints():
        loaded = await blobs.load([blob.id])
    with trio.testing.assert_checkpoints():
        await loaded.get(blob.id)
    with trio.testing.assert_checkpoints():
        await blobs.load([])
