"""Compressing, and finding damage before it is believed."""

import os
import random
import time
import tracemalloc
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256

import pytest
import zstandard

from blobstore.codec import CODECS, Blob, Payload, new_id, pack, parse, unpack
from blobstore.errors import BlobDamaged

MIB = 1024 * 1024
CAP = 8 * MIB
PAGE = "".join(f"<li class='row'><a href='/page/{n}'>Ärger {n * n}</a></li>\n" for n in range(1000))


def blob_of(raw: bytes, content: bytes, codec: str = "zstd", kind: str = "bytes") -> Blob:
    return Blob(new_id(), kind, codec, content, len(raw), sha256(raw).digest())


def damaged(blob: Blob) -> str:
    with pytest.raises(BlobDamaged) as caught:
        parse(blob.id, unpack(blob, cap=CAP))
    assert caught.value.blob_id == blob.id
    assert str(blob.id) in str(caught.value)
    return str(caught.value)


def peak_memory(call: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_page_shrinks_and_its_frame_carries_size_and_checksum():
    blob = pack(Payload("text", PAGE), cap=CAP)
    frame = zstandard.get_frame_parameters(blob.content)
    assert blob.codec == "zstd"
    assert len(blob.content) < blob.raw_size / 5
    assert frame.has_checksum
    assert frame.content_size == blob.raw_size == len(PAGE.encode())
    assert blob.sha256 == sha256(PAGE.encode()).digest()


@pytest.mark.parametrize("raw", [b"", b"abc", os.urandom(10_000)], ids=len)
def test_what_does_not_shrink_is_stored_as_it_is(raw):
    blob = pack(Payload("bytes", raw), cap=CAP)
    assert (blob.codec, blob.content) == ("none", raw)
    assert unpack(blob, cap=CAP) == Payload("bytes", raw)


def opened(blob: Blob) -> str | bytes | None:
    """What comes out, or None where damage is noticed."""
    try:
        return unpack(blob, cap=CAP).data
    except BlobDamaged:
        return None


# A zstd frame has some bits that its reader has no use for.
@pytest.mark.parametrize(("codec", "useless"), [("none", 0), ("zstd", 40)])
def test_4000_flipped_bits_are_noticed_or_make_no_difference(codec, useless):
    raw = PAGE.encode()
    content = CODECS[codec].compress(raw)
    outcomes = []
    for bit in random.Random(1).sample(range(len(content) * 8), 4000):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        outcomes.append(opened(blob_of(raw, bytes(flipped), codec)))
    assert set(outcomes) <= {None, raw}
    assert outcomes.count(raw) <= useless


@pytest.mark.parametrize("codec", CODECS)
def test_truncated_and_extended_content_is_noticed(codec):
    raw = PAGE.encode()
    content = CODECS[codec].compress(raw)
    for wrong in (b"", content[:1], content[:-1], content[: len(content) // 2]):
        damaged(blob_of(raw, wrong, codec))
    for extra in (b"\0", content, zstandard.compress(b"")):
        damaged(blob_of(raw, content + extra, codec))


def test_a_forged_frame_with_a_good_checksum_is_noticed():
    forged = CODECS["zstd"].compress(PAGE.replace("row", "col").encode())
    assert "not those that were written" in damaged(blob_of(PAGE.encode(), forged))


@pytest.mark.parametrize("raw_size", [-1, 0, 1, len(PAGE.encode()) + 1, CAP + 1, 2**63 - 1])
@pytest.mark.parametrize("codec", CODECS)
def test_a_forged_size_is_noticed(codec, raw_size):
    blob = blob_of(PAGE.encode(), CODECS[codec].compress(PAGE.encode()), codec)
    damaged(replace(blob, raw_size=raw_size))


def test_a_frame_that_declares_no_size_is_refused():
    content = zstandard.ZstdCompressor(write_content_size=False).compress(PAGE.encode())
    assert "its frame declares -1 bytes" in damaged(blob_of(PAGE.encode(), content))


def test_a_bomb_takes_no_memory():
    zeros = zstandard.ZstdCompressor(level=1).compress(bytes(256 * MIB))
    declared = (256 * MIB).to_bytes(4, "little")
    at = zeros.index(declared, 4, 18)
    lying = zeros[:at] + (1000).to_bytes(4, "little") + zeros[at + 4 :]
    assert zstandard.frame_content_size(lying) == 1000

    honest = blob_of(b"x" * 1000, zeros)
    over_the_cap = replace(honest, raw_size=256 * MIB)
    for bomb in (honest, over_the_cap, replace(honest, content=lying)):
        assert peak_memory(lambda bomb=bomb: damaged(bomb)) < MIB


@pytest.mark.parametrize("change", [{"codec": "lz9"}, {"kind": "parquet"}])
def test_what_a_newer_release_wrote_is_named(change):
    blob = pack(Payload("text", PAGE), cap=CAP)
    message = damaged(replace(blob, **change))
    assert repr(*change.values()) in message
    assert "newer release" in message


def test_bytes_that_are_no_text_or_no_json_are_damage():
    assert "utf-8" in damaged(blob_of(b"\xff", b"\xff", "none", "text"))
    assert "its JSON cannot be read" in damaged(blob_of(b"[1", b"[1", "none", "json"))
    assert "its JSON" in damaged(blob_of(b"[" * 2000, b"[" * 2000, "none", "json"))


def test_four_threads_do_not_spoil_each_other():
    pages = [f"{n}{PAGE * 5}" for n in range(4)]

    def round_trips(page: str) -> bool:
        return all(
            unpack(pack(Payload("text", page), cap=CAP), cap=CAP).data == page for _ in range(100)
        )

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
