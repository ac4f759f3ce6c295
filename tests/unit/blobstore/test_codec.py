"""Compressing, and finding damage before it is believed."""

import os
import random
import time
import tracemalloc
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest
import zstandard

from blobstore.errors import BlobDamaged
from blobstore.postgres.ids import new_blob_id, new_id
from blobstore.values.codec import Payload, compress, pack, parse, restore, unpack

MIB = 1024 * 1024
BLOB_ID = new_id()
PAGE = "".join(f"<li class='row'><a href='/page/{n}'>Ärger {n * n}</a></li>\n" for n in range(1000))
RAW = PAGE.encode()


def frame_of(raw: bytes) -> bytes:
    return compress([raw], len(raw))


def packed(raw: bytes) -> tuple[str, bytes]:
    return pack(Payload("bytes", raw), len(raw))


COMPRESSORS = {"none": lambda raw: raw, "zstd": frame_of}


def damaged(codec: str, content: bytes, raw_size: int = len(RAW)) -> str:
    with pytest.raises(ValueError, match=r"\w") as caught:
        unpack(codec, content, raw_size)
    return str(caught.value)


def peak_memory(call: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_page_shrinks_and_its_frame_carries_size_and_checksum():
    codec, content = packed(RAW)
    frame = zstandard.get_frame_parameters(content)
    assert codec == "zstd"
    assert len(content) < len(RAW) / 5
    assert frame.has_checksum
    assert frame.content_size == len(RAW)
    assert unpack(codec, content, len(RAW)) == RAW


@pytest.mark.parametrize("raw", [b"", b"abc", os.urandom(10_000)], ids=len)
def test_what_does_not_shrink_is_stored_as_it_is(raw):
    assert packed(raw) == ("none", raw)
    assert unpack("none", raw, len(raw)) == raw


def test_a_text_in_many_pieces_is_packed_as_its_bytes_are():
    text = PAGE * 5
    payload, raw = Payload("text", text), text.encode()
    codec, content = pack(payload, payload.size(2**20))
    assert unpack(codec, content, len(raw)) == raw
    assert payload.sha256() == sha256(raw).digest()
    assert list(payload.chunks(100_000)) == list(Payload("bytes", raw).chunks(100_000))


def test_a_chunk_is_a_frame_even_where_that_is_longer():
    raw = os.urandom(1000)
    assert len(frame_of(raw)) > len(raw)
    assert unpack("zstd", frame_of(raw), len(raw)) == raw


def test_large_values_are_written_and_read_without_second_copies():
    text, noise = "x" * 8 * MIB, os.urandom(4 * MIB)
    chunks = Payload("text", text).chunks(4 * MIB)
    assert peak_memory(lambda: next(chunks)) < 5 * MIB
    assert peak_memory(lambda: frame_of(noise)) < 5 * MIB
    assert peak_memory(lambda: restore(BLOB_ID, "text", text.encode())) < 17 * MIB  # both


def opened(content: bytes) -> bytes | None:
    """What comes out, or None where damage is noticed."""
    try:
        return unpack("zstd", content, len(RAW))
    except ValueError:
        return None


def test_4000_flipped_bits_of_a_frame_are_noticed_or_make_no_difference():
    content = frame_of(RAW)
    outcomes = []
    for bit in random.Random(1).sample(range(len(content) * 8), 4000):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        outcomes.append(opened(bytes(flipped)))
    assert set(outcomes) <= {None, RAW}
    assert outcomes.count(RAW) <= 40  # it has some bits that its reader has no use for


@pytest.mark.parametrize("codec", COMPRESSORS)
def test_truncated_and_extended_content_is_noticed(codec):
    content = COMPRESSORS[codec](RAW)
    for wrong in (b"", content[:1], content[:-1], content[: len(content) // 2]):
        damaged(codec, wrong)
    for extra in (b"\0", content, zstandard.compress(b"")):
        damaged(codec, content + extra)


@pytest.mark.parametrize("raw_size", [-1, 0, 1, len(RAW) + 1, 2**63 - 1])
@pytest.mark.parametrize("codec", COMPRESSORS)
def test_a_forged_size_is_noticed(codec, raw_size):
    damaged(codec, COMPRESSORS[codec](RAW), raw_size)


def test_a_frame_that_declares_no_size_is_refused():
    content = zstandard.ZstdCompressor(write_content_size=False).compress(RAW)
    assert "its frame declares -1 bytes" in damaged("zstd", content)


def test_a_bomb_takes_no_memory():
    zeros = zstandard.ZstdCompressor(level=1).compress(bytes(256 * MIB))
    declared = (256 * MIB).to_bytes(4, "little")
    at = zeros.index(declared, 4, 18)
    lying = zeros[:at] + (1000).to_bytes(4, "little") + zeros[at + 4 :]
    assert zstandard.frame_content_size(lying) == 1000
    for bomb in (zeros, lying):
        assert peak_memory(lambda bomb=bomb: damaged("zstd", bomb, 1000)) < MIB


def test_what_a_newer_release_wrote_is_named():
    assert damaged("lz9", b"x", 1) == "its codec is 'lz9': was it written by a newer release?"
    with pytest.raises(BlobDamaged, match=r"'parquet'.* a newer release") as caught:
        restore(BLOB_ID, "parquet", RAW)
    assert caught.value.blob_id == BLOB_ID


def test_bytes_that_are_no_text_or_no_json_are_damage():
    with pytest.raises(BlobDamaged, match=f"{BLOB_ID}.*not UTF-8 at byte 0$"):
        restore(BLOB_ID, "text", b"\xff")
    for broken in (b"[1", b"[" * 2000):
        with pytest.raises(BlobDamaged, match=f"{BLOB_ID}.*its JSON cannot be read"):
            parse(BLOB_ID, restore(BLOB_ID, "json", broken))


@pytest.mark.parametrize(
    ("payload", "raw"),
    [
        (Payload("text", "ä"), b"\xc3\xa4"),
        (Payload("bytes", b"\xff"), b"\xff"),
        (Payload("json", b"[1]"), b"[1]"),
    ],
)
def test_the_bytes_of_a_payload_restore_it(payload, raw):
    assert b"".join(payload.pieces()) == b"".join(payload.chunks(2)) == raw
    assert payload.size(2**20) == len(raw)
    assert restore(BLOB_ID, payload.kind, raw) == payload


def test_four_threads_do_not_spoil_each_other():
    pages = [f"{n}{PAGE * 5}".encode() for n in range(4)]

    def round_trips(page: bytes) -> bool:
        return all(unpack(*packed(page), len(page)) == page for _ in range(100))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(round_trips, pages))


def test_ids_are_uuids_of_version_7_that_order_by_time():
    before = time.time_ns() // 1_000_000
    ids = [new_id() for _ in range(1000)]
    after = time.time_ns() // 1_000_000
    assert {(made.version, made.variant) for made in ids} == {(7, uuid.RFC_4122)}
    ordered = [made.int >> 64 for made in ids]
    assert ordered == sorted(ordered)
    assert len(set(ordered)) > after - before  # finer than milliseconds
    assert before <= ids[0].int >> 80 <= ids[-1].int >> 80 <= after
    assert len({made.int & (2**62 - 1) for made in ids}) == 1000


def test_the_ids_of_blobs_begin_like_that_of_their_run():
    run_id = new_id()
    ids = [new_blob_id(run_id) for _ in range(1000)]
    assert {made.bytes[:8] for made in ids} == {run_id.bytes[:8]}
    assert {(made.version, made.variant) for made in ids} == {(7, uuid.RFC_4122)}
    assert len(set(ids)) == 1000
