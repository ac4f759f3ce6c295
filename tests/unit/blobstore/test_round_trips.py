"""Encoding values, and reading them back as values and handles: the database is a dict of rows."""

import os
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from hashlib import sha256
from typing import Any, Self
from uuid import UUID

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from blobstore import (
    Blob,
    BlobDamaged,
    BlobError,
    BlobForgotten,
    BlobMissing,
    Blobs,
    BlobUnavailable,
    Inline,
    KeyMissing,
    Owner,
    Stored,
    ValueRefused,
    ValueTooLarge,
)
from blobstore.keys import KeyRing
from blobstore.keys.places import Place
from blobstore.postgres import rows
from blobstore.postgres.ids import new_blob_id, new_id
from blobstore.postgres.rows import BlobRow
from blobstore.values import weight

KEYS = KeyRing({"key": bytes(range(32))})
OWNER = Owner(new_id(), "step", attempt=1, flow_slug="flow")
CHUNK = 100
SMALL, LARGE = b"0123456789", bytes(range(256)) * 2


class Database:
    """Keeps rows, makes calls and is its own connection; keeps chunks as an object store does."""

    name = "memory"

    def __init__(self) -> None:
        self.rows: dict[UUID, BlobRow] = {}
        self.chunks: dict[tuple[UUID, int], bytes] = {}
        self.calls = 0
        self.is_ours = True
        """Whether the attempt still has its task."""

    async def make(self, call: Any) -> Any:
        await trio.lowlevel.checkpoint()
        self.calls += 1
        match getattr(call, "func", None):
            case rows.fetch_dictionaries:
                return dict.fromkeys(call.keywords["numbers"], b"no dictionary")
            case None:
                return await call(self)  # which opens a blob
        content = call.keywords["content"]
        found = [self.rows[ref] for ref in call.keywords["ids"] if ref in self.rows]
        return [row if content else replace(row, content=None) for row in found]

    def cursor(self, **_: Any) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def execute(self, query: str, parameters: Sequence[Any]) -> None:
        blob_id, run_id, slug, index, _, kind, media_type, codec, key_id, data_key, store, size = (
            parameters[:12]
        )
        self.rows[blob_id] = BlobRow(
            blob_id, run_id, slug, int(index), kind, media_type, codec,
            key_id=key_id, data_key=data_key, store=store, chunk_size=int(size),
        )  # fmt: skip

    async def fetchall(self) -> list[tuple[bool]]:
        return [(self.is_ours,)]

    async def put(self, blob_id: UUID, seq: int, content: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if not self.is_ours:
            raise BlobMissing(blob_id)
        self.chunks[blob_id, seq] = content

    async def get(self, blob_id: UUID, seqs: Sequence[int]) -> list[bytes]:
        await trio.lowlevel.checkpoint()
        return [self.chunks[blob_id, seq] for seq in seqs]

    def save(self, stored: Stored) -> None:
        for row in stored.rows:
            self.rows[row.id] = row
        if upload := stored.upload:
            self.rows[upload.id] = replace(
                self.rows[upload.id],
                raw_size=upload.raw_size, stored_size=upload.stored_size,
                sha256=upload.sha256, preview=upload.preview,
            )  # fmt: skip


class Rig:
    """Blobs without a cache, on a database of its own."""

    def __init__(self, **options: Any) -> None:
        self.database = Database()
        options = {"cap": 10_000, "chunk_size": CHUNK, "object_threshold": CHUNK} | options
        self.blobs = Blobs(
            self.database.make, threshold=8, cache_budget=0, objects=self.database, **options
        )

    async def encode(self, value: object, owner: Owner = OWNER, **how: Any) -> Any:
        kept = await self.blobs.encode(value, owner, **how)
        if isinstance(kept, Stored):
            self.database.save(kept)
        return kept

    async def value(self, stored: Stored) -> Any:
        return await (await self.blobs.load([stored.id])).get(stored.id)

    async def handle(self, stored: Stored) -> Blob[Any]:
        return (await self.blobs.load([], [stored.id])).handle(stored.id)

    async def handle_of(self, value: object, **how: Any) -> Blob[Any]:
        return await self.handle(await self.encode(value, **how))


@pytest.fixture(params=[None, KEYS], ids=["in clear", "sealed"])
def rig(request: pytest.FixtureRequest) -> Rig:
    return Rig(keys=request.param)


async def stream(*pieces: Any) -> AsyncIterator[Any]:
    for piece in pieces:
        await trio.lowlevel.checkpoint()
        yield piece


async def test_a_brief_value_is_encoded_without_a_turn_of_the_loop_and_never_once_cancelled():
    blobs = Blobs(Database().make, cap=10_000)
    others = trio.Event()

    async def run_another() -> None:
        others.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_another)
        assert await blobs.encode({"n": [1]}, OWNER) == Inline(b'{"n":[1]}')
        assert not others.is_set()
    with trio.CancelScope() as scope:
        scope.cancel()
        await blobs.encode(1, OWNER)
    assert scope.cancelled_caught


async def test_a_brief_value_over_the_threshold_or_beyond_jsonb_is_a_blob_all_the_same(rig):
    for value in ("a text of some length", "\0", -0.0, {"a": "ä" * 20}):
        stored = await rig.encode(value)
        assert repr(await rig.value(stored)) == repr(value)


VALUES = ["a text of some length", "ä" * 300, SMALL, LARGE, [1] * 9, {"a": ["b"] * 99}]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:12])
async def test_a_value_comes_back_however_large_it_is(rig, value):
    stored = await rig.encode(value)
    assert repr(await rig.value(stored)) == repr(value)
    assert repr(await (await rig.handle(stored)).value()) == repr(value)


@given(st.lists(st.binary(max_size=150), max_size=6))
def test_a_stream_comes_back_as_bytes(pieces):
    async def main() -> None:
        rig = Rig()
        stored = await rig.encode(stream(*pieces))
        assert await rig.value(stored) == b"".join(pieces)

    trio.run(main)


async def test_a_short_stream_and_its_bytes_are_stored_alike():
    rig = Rig()
    one, other = await rig.encode(SMALL), await rig.encode(stream(SMALL[:3], SMALL[3:]))
    assert replace(one.rows[0], id=other.id) == other.rows[0]


async def test_the_bytes_of_a_file_are_stored_with_its_media_type(rig, tmp_path):
    path = tmp_path / "page.html"
    path.write_bytes(LARGE)
    handle = await rig.handle_of(path)
    assert await handle.bytes() == LARGE
    assert (handle.kind, handle.media_type) == ("bytes", "text/html")
    path = path.rename(tmp_path / "page.html.gz")
    assert (await rig.handle_of(path)).media_type == "application/octet-stream"
    assert (await rig.handle_of(path, media_type="a/b")).media_type == "a/b"


async def test_a_file_that_is_not_there_is_an_error_of_the_handler(rig, tmp_path):
    with pytest.raises(FileNotFoundError):
        await rig.encode(tmp_path / "page.html")


@pytest.mark.parametrize("before", [0, 1, CHUNK, 7 * CHUNK])
async def test_what_a_stream_raises_comes_out_as_itself_and_the_stream_is_closed(rig, before):
    closed = []

    async def failing() -> AsyncIterator[bytes]:
        try:
            yield bytes(before)
            raise BlobMissing(OWNER.run_id)
        finally:
            closed.append(True)

    with pytest.raises(BlobMissing):
        await rig.encode(failing())
    assert closed


@pytest.mark.parametrize("before", [b"", LARGE])
async def test_a_stream_of_texts_is_refused_and_closed(rig, before):
    closed = []

    async def texts() -> AsyncIterator[Any]:
        try:
            yield before
            yield "text"
        finally:
            await trio.lowlevel.checkpoint()
            closed.append(True)

    message = r"^\$ is a stream that yields str: let it yield bytes, `value.encode\(\)`$"
    with pytest.raises(ValueRefused, match=message):
        await rig.encode(texts())
    assert closed


async def test_a_stream_of_a_task_that_was_lost_ends_and_is_closed(rig):
    """Whether it was lost to another attempt or in a crash is not known: it may be tried again."""
    closed = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield LARGE
                rig.database.is_ours = False
        finally:
            closed.append(True)

    with pytest.raises(BlobUnavailable, match="disappeared while it was written"):
        await rig.encode(endless())
    assert closed


async def test_a_value_of_a_task_that_is_lost_meanwhile_may_be_tried_again(rig):
    async def put(blob_id: UUID, seq: int, content: bytes) -> None:
        raise BlobMissing(blob_id)

    rig.database.put = put
    with pytest.raises(BlobUnavailable, match="disappeared while it was written"):
        await rig.encode(bytes(9 * CHUNK))


async def test_a_task_that_was_lost_before_writes_nothing(rig):
    rig.database.is_ours = False
    with pytest.raises(BlobUnavailable):
        await rig.encode(LARGE)
    assert rig.database.chunks == {}


async def test_the_handle_of_a_value_of_the_same_run_stores_nothing():
    rig = Rig()
    for value in (SMALL, LARGE, ["x" * 99]):
        stored = await rig.encode(value)
        again = await rig.encode(await rig.handle(stored))
        assert again == Stored(stored.id)
        assert not again.is_unsaved


async def test_with_keys_the_handle_of_a_value_of_the_same_run_stores_it_as_that_of_its_step():
    rig, other = Rig(keys=KEYS), OWNER._replace(step_slug="other")
    for value in (SMALL, LARGE, ["x" * 99]):
        stored = await rig.encode(value)
        again = await rig.encode(await rig.handle(stored), other)
        loaded = await rig.blobs.load([stored.id, again.id])
        assert await loaded.get(again.id, Place.of(other)) == value
        with pytest.raises(BlobDamaged, match="of another run, step, task or element"):
            await loaded.get(stored.id, Place.of(other))


@pytest.mark.parametrize("value", [*VALUES, 1, "x"], ids=lambda value: repr(value)[:12])
async def test_the_handle_of_a_value_of_another_run_stores_it_anew(rig, value):
    other = Owner(new_id(), "step")
    kept = await rig.encode(value)
    inline = isinstance(kept, Inline)
    handle = Blob.of(OWNER.run_id, value) if inline else await rig.handle(kept)
    again = await rig.encode(handle, other)
    if not inline:
        assert again.id.bytes[:8] == other.run_id.bytes[:8]
        assert repr(await rig.value(again)) == repr(value)
        assert (await rig.handle(again)).media_type == handle.media_type
    else:
        assert again == kept


ELEMENTS = [
    "<a>" * 9,
    0,
    LARGE,
    False,
    None,
    "",
    SMALL,
    [],
    {},
    "<a>" * 9,
    {"a": [1] * 9},
    0.0,
    LARGE,
]


async def test_a_list_by_its_elements_comes_back_whole_and_by_each(rig):
    stored = await rig.encode(ELEMENTS, by_element=True)
    handle = await rig.handle(stored)
    assert repr(await rig.value(stored)) == repr(await handle.value()) == repr(ELEMENTS)
    assert [await handle.item(n) for n in range(len(ELEMENTS))] == ELEMENTS
    assert (handle.kind, handle.length) == ("list", len(ELEMENTS))
    for beyond in (-1, len(ELEMENTS)):
        with pytest.raises(IndexError):
            await handle.item(beyond)


async def test_elements_that_are_equal_are_stored_once():
    stored = await Rig().encode(ELEMENTS, by_element=True)
    head, *elements = stored.rows
    assert head.elements[0] == head.elements[9]
    assert head.elements[2] == head.elements[12]
    assert len(elements) == len({row.id for row in elements}) == 4


async def test_equal_bytes_of_another_kind_are_another_element():
    rig = Rig()
    values = ["0123456789", b"0123456789", "0123456789"]
    assert await rig.value(await rig.encode(values, by_element=True)) == values


async def test_a_list_by_its_elements_of_another_run_is_stored_by_its_elements_again(rig):
    stored = await rig.encode([LARGE, 1], by_element=True)
    again = await rig.encode(await rig.handle(stored), Owner(new_id(), "step"))
    assert await rig.value(again) == [LARGE, 1]
    assert {row.run_id for row in again.rows} != {OWNER.run_id}


@pytest.mark.parametrize("values", [[], [1], ["", None]], ids=repr)
async def test_a_list_of_nothing_large_may_be_stored_by_its_elements(rig, values):
    assert await rig.value(await rig.encode(values, by_element=True)) == values


async def test_what_is_no_list_is_stored_as_ever():
    assert await Rig().encode({"a": 1}, by_element=True) == Inline(b'{"a":1}')


@pytest.mark.parametrize(
    ("element", "message"),
    [
        ((1,), r"^\$\[2\] is of type tuple; give `list\(value\)` instead$"),
        ({"a": {1}}, r"^\$\[2\]\.a is of type set"),
        (b"x" * 10_001, r"^\$\[2\] takes 10,001 bytes or more, the cap is 10,000$"),
    ],
    ids=["tuple", "set inside", "too large"],
)
async def test_what_is_wrong_with_an_element_is_told_with_its_place(rig, element, message):
    with pytest.raises(ValueRefused, match=message):
        await rig.encode([1, 2, element], by_element=True)


def in_clear(row: BlobRow) -> bytes:
    """All of a row but what is sealed."""
    return repr(replace(row, sha256=None, data_key=None, content=None)).encode()


class ZlibDictionary:
    """Stands for a zstd dictionary, whose training would take long."""

    id = 7

    def compress(self, raw: bytes) -> bytes:
        return zlib.compress(raw)

    def decompress(self, content: bytes, raw_size: int) -> bytes:
        return zlib.decompress(content)


def use_dictionary(rig: Rig) -> None:
    dictionary: Any = ZlibDictionary()
    rig.blobs._depot._newest = {("flow", "step"): dictionary}
    rig.blobs._depot._dictionaries = {7: dictionary}


async def test_the_dictionary_of_a_step_compresses_its_outputs_and_their_elements():
    rig = Rig()
    use_dictionary(rig)
    whole = await rig.encode("page" * 20)
    stored = await rig.encode(["page" * 20, 1, "p"], by_element=True, threshold=1)
    assert whole.rows[0].dictionary_id == 7
    assert [row.dictionary_id for row in stored.rows if row.kind == "text"] == [7, None]
    assert await rig.value(whole) == "page" * 20
    assert await rig.value(stored) == ["page" * 20, 1, "p"]
    other = await rig.encode("page" * 20, OWNER._replace(step_slug="other"))
    assert other.rows[0].dictionary_id is None


async def test_with_keys_nothing_is_left_in_clear():
    rig = Rig(keys=KEYS)
    use_dictionary(rig)
    for value in ("", 1, None, "secret" * 9, ["secret" * 2], b"secret" * 50, stream(b"secret")):
        assert isinstance(await rig.encode(value), Stored)
    await rig.encode(["secret", 0, "secret", "secret" * 20], by_element=True)
    stored = [*rig.database.rows.values()]
    assert {row.key_id for row in stored} == {"key"}
    assert {row.preview for row in stored} == {row.dictionary_id for row in stored} == {None}
    assert len({row.data_key for row in stored}) == len(stored)
    kept = [row.content for row in stored if row.content] + [*rig.database.chunks.values()]
    assert not any(b"secret" in part for part in [*kept, *map(in_clear, stored)])
    digests = {sha256(value).digest() for value in (b"secret", b"secret" * 9, b"secret" * 50)}
    assert not any(digest in row.sha256 for digest in digests for row in stored)


async def test_with_keys_equal_elements_do_not_show_that_they_are():
    head, *elements = (await Rig(keys=KEYS).encode([SMALL] * 3 + [0, 0], by_element=True)).rows
    assert head.elements == [row.id for row in elements]
    assert len({row.content for row in elements}) == len({row.sha256 for row in elements}) == 5


async def test_who_has_not_the_key_is_told_which_it_is():
    rig, other = Rig(keys=KEYS), Rig(keys=KeyRing({"other": bytes(range(1, 33))}))
    stored = await rig.encode(LARGE)
    for keys in (None, other.blobs):
        reader = other if keys else Rig()
        reader.database.rows = rig.database.rows
        with pytest.raises(KeyMissing, match="has no key 'key'"):
            await reader.value(stored)
        with pytest.raises(KeyMissing, match="has no key 'key'"):
            await reader.handle(stored)


# Handles.


@pytest.mark.parametrize("raw", [SMALL, LARGE], ids=["small", "in chunks"])
@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, None), (3, 5), (-3, None), (0, -3), (-5, -2), (5, 3), (99999, None), (0, 99999), (0, 0)],
)
async def test_a_range_of_a_handle_is_that_of_its_bytes(rig, raw, start, stop):
    handle = await rig.handle_of(raw)
    assert await handle.read(start, stop) == raw[start:stop]


async def test_a_handle_tells_what_is_known_without_the_bytes(rig):
    handle = await rig.handle_of("ä" * 200, media_type="text/html")
    assert (handle.kind, handle.media_type, handle.size) == ("text", "text/html", 400)
    assert handle.sha256 == sha256(("ä" * 200).encode()).hexdigest()
    assert (handle.run_id, handle.length) == (OWNER.run_id, None)
    assert str(handle.id) in repr(handle)


async def sevens(pieces: trio.abc.ReceiveStream) -> AsyncIterator[bytes]:
    while piece := await pieces.receive_some(7):
        assert len(piece) <= 7
        yield piece


@pytest.mark.parametrize("raw", [b"", SMALL, LARGE], ids=["none", "small", "in chunks"])
async def test_the_bytes_of_a_handle_are_had_in_any_way(rig, raw, tmp_path):
    handle = await rig.handle_of(raw)
    await handle.save(tmp_path / "file")
    async with handle.open() as pieces:
        streamed = [piece async for piece in pieces]
    async with handle.open() as pieces:
        by_seven = [piece async for piece in sevens(pieces)]
    assert (tmp_path / "file").read_bytes() == raw == await handle.bytes()
    assert b"".join(streamed) == b"".join(by_seven) == raw


async def test_a_list_by_its_elements_has_no_bytes_to_read(rig):
    handle = await rig.handle_of([LARGE], by_element=True)
    with pytest.raises(TypeError, match="is a list"):
        await handle.bytes()


# What is wrong with what is stored.

DAMAGE: list[tuple[str, dict[str, Any], type[BlobError], str]] = [
    ("content", {"content": b"987654321 "}, BlobDamaged, "not those that were written"),
    ("length", {"content": SMALL[:-1]}, BlobDamaged, "it has 9 bytes, not 10"),
    ("size", {"raw_size": 11}, BlobDamaged, "it has 10 bytes, not 11"),
    ("negative size", {"raw_size": -1}, BlobDamaged, "it has 10 bytes, not -1"),
    ("over the cap", {"raw_size": 2**40}, ValueTooLarge, "take it as a handle"),
    ("digest", {"sha256": bytes(32)}, BlobDamaged, "not those that were written"),
    ("no digest", {"sha256": None}, BlobDamaged, "it was never finished"),
    ("codec", {"codec": "lz9"}, BlobDamaged, "a newer release"),
    ("kind", {"kind": "parquet"}, BlobDamaged, "a newer release"),
    ("dictionary", {"dictionary_id": 7}, BlobDamaged, "no dictionary 7"),
    ("forgotten", {"forgotten": True, "content": None}, BlobForgotten, "was forgotten"),
    (
        "other store",
        {"store": "cloud", "chunk_size": 4},
        BlobUnavailable,
        "the store 'cloud', which",
    ),
]


@pytest.mark.parametrize(("changes", "error", "words"), [case[1:] for case in DAMAGE], ids=[
    case[0] for case in DAMAGE
])  # fmt: skip
async def test_damage_is_told_with_the_blob_to_those_who_ask_for_it(changes, error, words):
    rig = Rig()
    stored, whole = await rig.encode(SMALL), await rig.encode(LARGE)
    rig.database.rows[stored.id] = replace(rig.database.rows[stored.id], **changes)
    loaded = await rig.blobs.load([stored.id, whole.id])
    with pytest.raises(error, match=f"{stored.id}.*{words}"):
        await loaded.get(stored.id)
    assert await loaded.get(whole.id) == LARGE


async def test_what_is_sealed_cannot_be_moved_to_another_blob():
    rig = Rig(keys=KEYS)
    one, other = await rig.encode(SMALL), await rig.encode(LARGE[:10])
    stored = rig.database.rows
    for names in (["content"], ["sha256"], ["content", "sha256"], ["data_key"]):
        moved = {name: getattr(stored[other.id], name) for name in names}
        mixed = Rig(keys=KEYS)
        mixed.database.rows = {one.id: replace(stored[one.id], **moved)}
        with pytest.raises(BlobDamaged, match=str(one.id)):
            await mixed.value(one)


async def test_a_blob_that_is_not_there_is_told_by_its_id():
    rig, missing = Rig(), new_blob_id(OWNER.run_id)
    loaded = await rig.blobs.load([missing], [missing])
    with pytest.raises(BlobMissing, match=str(missing)):
        await loaded.get(missing)
    with pytest.raises(BlobMissing, match=str(missing)):
        loaded.handle(missing)


async def test_the_rest_of_a_handle_that_was_deleted_meanwhile_is_missing():
    rig = Rig()
    handle = await rig.handle_of(SMALL)
    rig.database.rows.clear()
    with pytest.raises(BlobMissing, match=str(handle.id)):
        await handle.bytes()


async def test_one_query_gets_all_values_and_one_all_handles():
    rig = Rig()
    stored = [await rig.encode(value) for value in (SMALL, LARGE, [1] * 9)]
    ids = [each.id for each in stored]
    before = rig.database.calls
    await rig.blobs.load(ids, ids)
    assert rig.database.calls == before + 1
    await rig.blobs.load(ids[:1], ids[1:])
    assert rig.database.calls == before + 3


async def test_what_was_written_or_read_last_takes_no_query():
    rig = Rig()
    rig.blobs = Blobs(rig.database.make, threshold=8)
    stored = await rig.encode(SMALL)
    before = rig.database.calls
    assert await rig.value(stored) == SMALL
    assert rig.database.calls == before


@pytest.mark.parametrize("pieces", [1, 9])
async def test_a_cancelled_encoding_closes_the_stream(pieces, autojump_clock):
    closed = []

    async def slow() -> AsyncIterator[bytes]:
        try:
            for _ in range(pieces):
                yield bytes(CHUNK)
            await trio.sleep_forever()
        finally:
            closed.append(trio.current_time())

    with trio.move_on_after(5) as scope:
        await Rig().encode(slow())
    assert scope.cancelled_caught
    assert closed == [5]


async def test_a_handle_streams_on_to_another_run_and_is_closed():
    rig = Rig()
    handle = await rig.handle_of(LARGE)
    async with aclosing(handle.open()) as pieces:
        again = await rig.encode(pieces, Owner(new_id(), "step"))
    assert await rig.value(again) == LARGE


# What should not stop a worker, or fill it.


@pytest.mark.parametrize("piece", [b"", b"x"])
async def test_a_stream_without_checkpoints_or_end_can_be_cancelled(rig, piece):
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield piece

    with trio.move_on_after(0.05) as scope:
        await Rig(chunk_size=2**40).encode(endless())
    assert scope.cancelled_caught


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
async def test_what_is_no_regular_file_is_refused_at_once(rig, tmp_path, make):
    make(tmp_path / "odd")
    with trio.fail_after(5), pytest.raises(ValueRefused, match=r"odd.*not a regular file"):
        await rig.encode(tmp_path / "odd")


async def test_a_value_that_cannot_be_read_leaves_no_file_behind(rig, tmp_path):
    handle = await rig.handle_of(LARGE)
    rig.database.chunks.popitem()
    (tmp_path / "page").write_bytes(b"before")
    with pytest.raises((KeyError, BlobError)):
        await handle.save(tmp_path / "page")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("page", b"before")]


async def test_the_elements_of_a_list_count_together(rig):
    whole = [b"x" * 60] * 3
    with pytest.raises(ValueTooLarge):
        await Rig(cap=150).encode(whole, by_element=True)
    stored = await rig.encode(whole, by_element=True)
    smaller = Rig(cap=150, keys=KEYS)
    smaller.database.rows = {
        ref: replace(row, elements_size=180 if row.elements else None)
        for ref, row in rig.database.rows.items()
    }
    with pytest.raises(ValueTooLarge, match="take it as a handle"):
        await smaller.value(stored)


async def test_no_more_small_elements_stand_in_the_list_than_fit_into_a_chunk():
    rig = Rig()
    stored = await rig.encode([1234567] * 50, by_element=True)
    assert len(stored.rows[0].content) < 2 * CHUNK
    assert await rig.value(stored) == [1234567] * 50


async def test_a_part_of_what_was_loaded_keeps_no_other_in_memory(rig):
    one, other = await rig.encode(SMALL), await rig.encode(LARGE)
    loaded = await rig.blobs.load([one.id, other.id])
    own = loaded.only([one.id])
    with pytest.raises(BlobMissing):
        await own.get(other.id)
    assert await own.get(one.id) == SMALL
    own.release()
    with pytest.raises(BlobMissing):
        await own.get(one.id)


@pytest.mark.parametrize("count", [2, 3])
async def test_a_list_is_weighed_with_all_of_its_elements(monkeypatch, count):
    monkeypatch.setattr(weight, "MOST", 20_000)
    rig, element = Rig(), [[]] * 60
    stored = await rig.encode([element] * count, by_element=True, threshold=1)
    if count == 2:
        assert await rig.value(stored) == [element] * 2
        return
    with pytest.raises(ValueTooLarge, match=r"with the rest of its list, .* as Python objects"):
        await rig.value(stored)


@pytest.mark.parametrize("content", [b"7", b"{}", b'"ab"', b"[null]", b"[null,null,null]", b"[]"])
async def test_a_list_whose_row_names_other_elements_is_damaged(content):
    rig = Rig()
    stored = await rig.encode([LARGE, LARGE], by_element=True)
    row = rig.database.rows[stored.id]
    forged = {"content": content, "codec": "none", "raw_size": len(content)}
    rig.database.rows[stored.id] = replace(row, sha256=sha256(content).digest(), **forged)
    with pytest.raises(BlobDamaged, match="its list and its elements do not match"):
        await rig.value(stored)
