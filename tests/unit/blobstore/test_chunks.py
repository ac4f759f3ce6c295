"""Chunks: written and read a few at a time, with a dict in the place of the database."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from blobstore.chunks import UNDER_WAY, Chunks, groups
from blobstore.errors import BlobDamaged, BlobError, BlobMissing
from blobstore.keys import KeyRing
from blobstore.keys.seals import Seal, new_seal
from blobstore.postgres.ids import new_id
from blobstore.postgres.rows import BlobRow, Upload
from blobstore.streams import regroup
from blobstore.values.codec import PREVIEW

BLOB_ID = new_id()
KEYS = KeyRing({"key": bytes(range(32))})
OPEN = Seal(BLOB_ID, None)
TEXT = "".join(f"{n}. Ärger\n" for n in range(100)).encode()

pieces_of_bytes = st.lists(st.binary(max_size=40), max_size=12)
sizes = st.integers(1, 30)


class Memory:
    """Keeps chunks in a dict, and notes how many calls are under way at once."""

    name = "memory"

    def __init__(self) -> None:
        self.chunks: dict[tuple[UUID, int], bytes] = {}
        self.asked: list[int] = []
        self.most_under_way = self._under_way = 0

    async def put(self, blob_id: UUID, seq: int, content: bytes) -> None:
        self._under_way += 1
        self.most_under_way = max(self.most_under_way, self._under_way)
        await trio.testing.wait_all_tasks_blocked()
        self._under_way -= 1
        self.chunks[blob_id, seq] = content

    async def get(self, blob_id: UUID, seqs: Sequence[int]) -> list[bytes]:
        await trio.lowlevel.checkpoint()
        self.asked.extend(seqs)
        try:
            return [self.chunks[blob_id, seq] for seq in seqs]
        except KeyError:
            raise BlobMissing(blob_id) from None


async def here(heavy: bool, job: Callable[[], Any]) -> Any:
    """Do a job without a thread, which a test of small chunks has no use for."""
    await trio.lowlevel.checkpoint()
    return job()


async def stream(pieces: Sequence[bytes]) -> AsyncGenerator[bytes, None]:
    for piece in pieces:
        await trio.lowlevel.checkpoint()
        yield piece


async def read_into(got: list[Any], source: AsyncGenerator[Any, None]) -> None:
    async with aclosing(source) as items:
        async for item in items:
            got.append(item)  # noqa: PERF401 - what came before an error is wanted too


async def gathered(source: AsyncGenerator[Any, None]) -> list[Any]:
    got: list[Any] = []
    await read_into(got, source)
    return got


def opened_row(chunk_size: int, kind: str = "bytes") -> BlobRow:
    return BlobRow(BLOB_ID, BLOB_ID, "step", 0, kind, store="memory", chunk_size=chunk_size)


def finished(row: BlobRow, upload: Upload) -> BlobRow:
    return replace(row, raw_size=upload.raw_size, sha256=upload.sha256, preview=upload.preview)


async def written(
    raw: bytes, chunk_size: int, store: Memory, seal: Seal = OPEN, kind: str = "bytes"
) -> Chunks:
    row = opened_row(chunk_size, kind)
    async with aclosing(stream([raw])) as pieces, aclosing(regroup(pieces, chunk_size)) as chunks:
        upload = await Chunks(row, seal, store, here).write(chunks)
    return Chunks(finished(row, upload), seal, store, here)


@given(pieces_of_bytes, sizes)
def test_pieces_of_any_size_become_chunks_of_one_size(pieces, size):
    chunks = trio.run(gathered, regroup(stream(pieces), size))
    assert b"".join(chunks) == b"".join(pieces)
    assert {len(chunk) for chunk in chunks[:-1]} <= {size}
    assert all(0 < len(chunk) <= size for chunk in chunks[-1:])


@given(st.integers(0, 20))
def test_groups_keep_order_and_are_no_larger_than_what_may_be_under_way(count):
    chunks = [bytes([n]) for n in range(count)]
    grouped = trio.run(gathered, groups(stream(chunks)))
    assert [chunk for group in grouped for chunk in group] == chunks
    assert {len(group) for group in grouped[:-1]} <= {UNDER_WAY}
    assert all(grouped)


bounds = st.none() | st.integers(-200, 200)


@pytest.mark.parametrize("sealed", [False, True], ids=["in clear", "sealed"])
@given(pieces_of_bytes, sizes, st.lists(st.tuples(bounds, bounds), max_size=4))
def test_any_range_of_what_was_written_is_read_back(sealed, pieces, size, ranges):
    async def main() -> None:
        raw = b"".join(pieces)
        seal = new_seal(BLOB_ID, KEYS)[0] if sealed else OPEN
        chunks = await written(raw, size, Memory(), seal)
        for start, stop in [(0, None), *ranges]:
            read = chunks.read(start or 0, stop)
            assert b"".join(await gathered(read)) == raw[start:stop]

    trio.run(main)


async def test_what_is_known_afterwards():
    store, row = Memory(), opened_row(100, "text")
    async with aclosing(regroup(stream([TEXT]), 100)) as pieces:
        upload = await Chunks(row, OPEN, store, here).write(pieces)
    assert upload.id == BLOB_ID
    assert (upload.chunks, upload.raw_size) == (len(store.chunks), len(TEXT))
    assert upload.stored_size == sum(map(len, store.chunks.values()))
    assert upload.sha256 == sha256(TEXT).digest()
    assert upload.preview == TEXT.decode()[:PREVIEW]


async def test_of_what_is_sealed_nothing_is_known_in_clear():
    store, row = Memory(), opened_row(100, "text")
    seal = new_seal(BLOB_ID, KEYS)[0]
    async with aclosing(regroup(stream([TEXT]), 100)) as pieces:
        upload = await Chunks(row, seal, store, here).write(pieces)
    assert upload.preview is None
    assert sha256(TEXT).digest() not in upload.sha256
    assert not any(b"rger" in chunk for chunk in store.chunks.values())


async def test_some_chunks_are_under_way_at_once_and_never_more():
    store = Memory()
    await written(TEXT, 50, store)
    assert len(store.chunks) > 3 * UNDER_WAY
    assert store.most_under_way == UNDER_WAY


async def test_a_range_reads_only_the_chunks_it_is_in():
    store = Memory()
    chunks = await written(TEXT, 100, store)
    await gathered(chunks.read(250, 301))
    assert store.asked == [2, 3]
    await gathered(chunks.read(300, 300))
    assert store.asked == [2, 3]


def flip(store: Memory, seq: int) -> None:
    content = bytearray(store.chunks[BLOB_ID, seq])
    content[len(content) // 2] ^= 1
    store.chunks[BLOB_ID, seq] = bytes(content)


def swap(store: Memory, one: int, other: int) -> None:
    chunks = store.chunks
    chunks[BLOB_ID, one], chunks[BLOB_ID, other] = chunks[BLOB_ID, other], chunks[BLOB_ID, one]


DAMAGE: dict[str, Callable[[Memory], Any]] = {
    "a flipped bit": lambda store: flip(store, 1),
    "an empty chunk": lambda store: store.chunks.update({(BLOB_ID, 1): b""}),
    "a truncated chunk": lambda store: store.chunks.update(
        {(BLOB_ID, 1): store.chunks[BLOB_ID, 1][:-1]}
    ),
    "a missing chunk": lambda store: store.chunks.pop((BLOB_ID, 1)),
    "the last chunk in the place of another": lambda store: swap(store, 1, len(store.chunks) - 1),
}


@pytest.mark.parametrize("sealed", [False, True], ids=["in clear", "sealed"])
@pytest.mark.parametrize(("start", "stop"), [(0, None), (150, 160)], ids=["whole", "range"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
async def test_damage_is_told_with_the_blob_and_no_other_bytes_come_out(
    damage, start, stop, sealed
):
    store = Memory()
    chunks = await written(TEXT, 100, store, new_seal(BLOB_ID, KEYS)[0] if sealed else OPEN)
    damage(store)
    got: list[bytes] = []
    with pytest.raises(BlobError, match=str(BLOB_ID)) as caught:
        await read_into(got, chunks.read(start, stop))
    assert isinstance(caught.value, BlobDamaged | BlobMissing)
    assert TEXT[start:].startswith(b"".join(got))


@pytest.mark.parametrize("limits", [(0, None), (100, 110)])
async def test_chunks_of_one_size_that_changed_places_are_noticed(limits):
    store = Memory()
    chunks = await written(TEXT, 100, store)
    swap(store, 1, 2)
    with pytest.raises(BlobDamaged, match="it is a different chunk"):
        await gathered(chunks.read(*limits))


async def test_a_row_that_tells_of_chunks_larger_than_any_is_damage_and_nothing_is_read():
    store = Memory()
    forged = replace(opened_row(2**31 - 1), raw_size=2**40, sha256=bytes(32))
    with pytest.raises(BlobDamaged, match="its chunk size is too large: 2,147,483,647 bytes"):
        await gathered(Chunks(forged, OPEN, store, here).read())
    assert store.asked == []


async def test_sealed_chunks_open_only_in_their_places():
    store = Memory()
    chunks = await written(TEXT, 100, store, new_seal(BLOB_ID, KEYS)[0])
    swap(store, 1, 2)
    with pytest.raises(BlobDamaged, match="chunk 1: its seal is broken"):
        await gathered(chunks.read(100, 110))


async def test_what_the_pieces_raise_comes_out_as_itself():
    async def failing() -> AsyncIterator[bytes]:
        for _ in range(UNDER_WAY + 1):
            yield b"x"
        raise KeyError("y")

    with pytest.raises(KeyError, match="y"):
        await Chunks(opened_row(1), OPEN, Memory(), here).write(failing())


async def test_what_the_store_raises_comes_out_as_itself_and_ends_the_others():
    class Failing(Memory):
        async def put(self, blob_id: UUID, seq: int, content: bytes) -> None:
            if seq == 1:
                raise BlobMissing(blob_id)
            await trio.sleep_forever()

    with pytest.raises(BlobMissing, match=str(BLOB_ID)):
        await written(TEXT, 100, Failing())


async def test_who_stops_reading_early_reads_no_further():
    store = Memory()
    chunks = await written(TEXT, 10, store)
    async with aclosing(chunks.read()) as pieces:
        assert await anext(pieces) == TEXT[:10]
    assert store.asked == list(range(UNDER_WAY))
    assert all(later - earlier == 1 for earlier, later in pairwise(store.asked))
