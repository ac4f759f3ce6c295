"""Dictionaries: small values become smaller, and damage is an error and nothing else."""

import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pydoc_data.topics import topics
from textwrap import dedent

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from blobstore.values.dictionaries import MAX_SIZE, MIN_SAMPLES, MIN_SIZE, Dictionary, gain, train

MIB = 1024 * 1024

PAGE = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{0}</title>
<link rel="stylesheet" href="/style.css"><link rel="canonical" href="https://docs.test/{0}">
</head><body class="topic"><nav aria-label="related"><a href="index.html">Index</a>
<a href="topics.html">Topics</a></nav><main><h1>{0}</h1><pre>{1}</pre></main></body></html>
"""

PAGES = [
    PAGE.format(name, text[at : at + 600]).encode()
    for name, text in sorted(topics.items())
    for at in range(0, len(text), 600)
]
TRAINING, HELD_OUT = PAGES[::2], PAGES[1::2]
CONTENT = train(TRAINING)
DICTIONARY = Dictionary(7, CONTENT)
FRAMES = [(page, DICTIONARY.compress(page)) for page in HELD_OUT[:20]]


def survives(program: str) -> str:
    """Run it in a process of its own, which may crash; what it printed."""
    command = [sys.executable, "-X", "faulthandler", "-"]
    done = subprocess.run(
        command, input=dedent(program), capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def peak_memory(call: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refused(content: bytes, raw_size: int, dictionary: Dictionary = DICTIONARY) -> str:
    with pytest.raises(ValueError, match=r"frame|dictionary 7") as caught:
        dictionary.decompress(content, raw_size)
    return str(caught.value)


def test_pages_of_one_site_become_more_than_twice_as_small_as_without():
    plain, with_dictionary = gain(DICTIONARY, HELD_OUT)
    assert with_dictionary > 2 * plain > 2


def test_a_frame_carries_size_checksum_and_the_dictionary_it_needs():
    frame = zstandard.get_frame_parameters(DICTIONARY.compress(PAGES[0]))
    assert frame.content_size == len(PAGES[0])
    assert frame.has_checksum
    assert frame.dict_id == zstandard.ZstdCompressionDict(CONTENT).dict_id() != 0


def test_zstd_by_itself_reads_what_was_written():
    known = zstandard.ZstdCompressionDict(CONTENT)
    for page, content in FRAMES:
        assert zstandard.ZstdDecompressor(dict_data=known).decompress(content) == page


@given(raw=st.binary() | st.sampled_from(PAGES) | st.binary().map(PAGES[0].__add__))
def test_any_bytes_come_back(raw):
    assert DICTIONARY.decompress(DICTIONARY.compress(raw), len(raw)) == raw


def test_values_larger_than_the_dictionary_and_its_samples_come_back():
    for raw in (b"".join(PAGES), os.urandom(5 * MIB), bytes(5 * MIB), PAGES[0]):
        assert DICTIONARY.decompress(DICTIONARY.compress(raw), len(raw)) == raw


def opened(content: bytes, raw_size: int) -> bytes | None:
    """What comes out, or None where damage is noticed."""
    try:
        return DICTIONARY.decompress(content, raw_size)
    except ValueError:
        return None


def test_4000_flipped_bits_are_noticed_or_make_no_difference():
    page, content = FRAMES[0]
    bits = random.Random(1).choices(range(len(content) * 8), k=4000)
    outcomes = set()
    for bit in bits:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        outcomes.add(opened(bytes(flipped), len(page)))
    assert None in outcomes
    assert outcomes <= {None, page}


@given(
    frame=st.sampled_from(FRAMES),
    at=st.integers(0, 1000),
    cut=st.integers(0, 1000),
    put=st.binary(max_size=100),
)
def test_a_mutilated_frame_gives_an_error_or_the_same_bytes(frame, at, cut, put):
    page, content = frame
    mutilated = content[:at] + put + content[at + cut :]
    assert opened(mutilated, len(page)) in {None, page}


@given(
    head=st.sampled_from([b"", b"\x28\xb5\x2f\xfd", *(content[:14] for _, content in FRAMES[:3])]),
    tail=st.binary(max_size=400),
    raw_size=st.integers(0, 2**20),
)
def test_what_is_no_frame_at_all_gives_an_error_or_the_size_it_claims(head, tail, raw_size):
    raw = opened(head + tail, raw_size)
    assert raw is None or len(raw) == raw_size


def test_truncated_and_extended_frames_are_refused():
    page, content = FRAMES[0]
    for wrong in (b"", content[:1], content[:-1], content[:-4], content + b"\0", content * 2):
        refused(wrong, len(page))


@pytest.mark.parametrize("wrong", [-1, 0, 1, 10**6, 2**63 - 1])
def test_another_size_is_refused(wrong):
    page, content = FRAMES[0]
    assert f"declares {len(page):,} bytes, not {wrong:,}" in refused(content, wrong)


def test_a_frame_that_declares_no_size_is_refused():
    content = zstandard.ZstdCompressor(write_content_size=False).compress(PAGES[0])
    assert "declares -1 bytes" in refused(content, len(PAGES[0]))


def test_a_bomb_takes_no_memory():
    zeros = DICTIONARY.compress(bytes(256 * MIB))
    at = zeros.index((256 * MIB).to_bytes(4, "little"), 4, 18)
    lying = zeros[:at] + (1000).to_bytes(4, "little") + zeros[at + 4 :]
    assert zstandard.frame_content_size(lying) == 1000
    assert peak_memory(lambda: refused(zeros, 1000)) < MIB
    assert peak_memory(lambda: refused(lying, 1000)) < MIB


def test_the_frame_of_another_dictionary_is_refused_and_the_mistake_named():
    other = Dictionary(8, train(HELD_OUT))
    page, content = FRAMES[0]
    with pytest.raises(ValueError, match=r"[Dd]ictionary mismatch.*dictionary 8"):
        other.decompress(content, len(page))


def test_after_an_error_a_dictionary_goes_on_working():
    for page, content in FRAMES:
        refused(content[:-1], len(page))
        assert DICTIONARY.decompress(content, len(page)) == page


@pytest.mark.parametrize("content", [b"", b"7", b"\x37\xa4\x30\xec", PAGES[0], CONTENT[:100]])
def test_what_is_no_dictionary_is_refused(content):
    with pytest.raises(ValueError, match="not a zstd dictionary"):
        Dictionary(7, content)


def test_a_dictionary_for_which_there_is_no_memory_is_not_called_damaged():
    survives(f"""
        import os
        from contextlib import suppress
        from resource import RLIMIT_AS, setrlimit
        from blobstore.values.dictionaries import Dictionary
        content, kib = {CONTENT!r}, 1024

        def prepare(room):
            with open("/proc/self/statm") as statm:
                used = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            setrlimit(RLIMIT_AS, (used + 16 * 1024 * kib,) * 2)
            hoard = []
            for size in (200 * kib, 16 * kib, 4 * kib):
                with suppress(MemoryError):
                    while True:
                        hoard.append(bytearray(size - 100))
            while room > 0:
                room -= len(hoard.pop(0))
            with suppress(MemoryError):
                Dictionary(7, content)

        for room in range(0, 4000 * kib, 200 * kib):
            if not (child := os.fork()):
                prepare(room)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0, room
    """)


def test_a_damaged_dictionary_gives_errors_or_the_same_bytes_and_never_a_crash():
    survives(f"""
        import random
        from blobstore.values.dictionaries import Dictionary
        content, page, frame = {CONTENT[:400] + CONTENT[-4000:]!r}, {PAGES[0]!r}, None
        whole, chance, used = Dictionary(7, content), random.Random(1), 0
        frame = whole.compress(page)
        for _ in range(3000):
            damaged = bytearray(content)
            for _ in range(chance.randrange(1, 4)):
                end = chance.choice([160, len(content)])  # the tables, or anywhere
                damaged[chance.randrange(8, end)] = chance.randrange(256)
            try:
                dictionary = Dictionary(7, bytes(damaged))
            except ValueError:
                continue
            used += 1
            assert dictionary.decompress(dictionary.compress(page), len(page)) == page
            try:
                assert dictionary.decompress(frame, len(page)) == page
            except ValueError:
                pass
        assert used > 100, used
    """)


# Contexts that are shared crash the process or give wrong bytes; so does a dictionary that is
# prepared anew while another thread uses it.
def test_eight_threads_share_one_dictionary_and_make_more_of_the_same_content():
    survives(f"""
        import random, sys
        from concurrent.futures import ThreadPoolExecutor
        from threading import Barrier
        from blobstore.values.dictionaries import Dictionary, train
        sys.setswitchinterval(1e-5)
        pages = {HELD_OUT[:200]!r}
        content = train(pages)
        # So large that threads meet inside the library, and that contexts are kept.
        values = [*pages[:5], *(b"".join(pages[n : n + 50]) for n in range(20))]
        assert max(map(len, values)) < 64 * 1024
        shared, together = Dictionary(1, content), Barrier(8)

        def work(seed):
            chance = random.Random(seed)
            together.wait()
            for n in range(200):
                value = chance.choice(values)
                frame = shared.compress(value)
                assert shared.decompress(frame, len(value)) == value
                assert n % 20 or frame == Dictionary(2, content).compress(value)
                try:
                    shared.decompress(frame[:-1] + b"?", len(value))
                except ValueError:
                    pass

        with ThreadPoolExecutor(8) as threads:
            for done in [threads.submit(work, seed) for seed in range(8)]:
                done.result()
    """)


def test_contexts_are_kept_for_the_next_call_but_never_more_than_one():
    dictionary = Dictionary(7, CONTENT)
    for page, content in FRAMES:
        assert dictionary.compress(page) == content
        assert dictionary.decompress(content, len(page)) == page
    assert (len(dictionary._compressors), len(dictionary._decompressors)) == (1, 1)
    taken = dictionary._compressor(), dictionary._decompressor()
    assert dictionary.decompress(dictionary.compress(PAGES[0]), len(PAGES[0])) == PAGES[0]
    dictionary._compressors.append(taken[0])
    dictionary._decompressors.append(taken[1])
    assert (len(dictionary._compressors), len(dictionary._decompressors)) == (1, 1)
    dictionary.compress(b"".join(PAGES))
    assert len(dictionary._compressors) == 0  # that one has grown to megabytes


def test_the_same_samples_give_the_same_dictionary():
    program = """
        from hashlib import sha256
        from pydoc_data.topics import topics
        from blobstore.values.dictionaries import train
        samples = [text.encode() for _, text in sorted(topics.items())]
        print(sha256(train(samples) + train(samples, 10_000)).hexdigest())
    """
    assert survives(program) == survives(program)


def test_repeated_samples_change_nothing():
    assert train(TRAINING * 2) == CONTENT


def test_only_so_many_samples_and_so_much_of_each_is_taken(monkeypatch):
    taken = []

    def note(size, samples, **_):
        taken.extend(samples)
        raise zstandard.ZstdError("enough")

    monkeypatch.setattr(zstandard, "train_dictionary", note)
    samples = [n.to_bytes(4, "big") + bytes(MIB // 8) for n in range(2500)]
    with pytest.raises(ValueError, match="enough"):
        train(samples)
    assert len(taken) == 1000
    assert {len(sample) for sample in taken} == {64 * 1024}
    assert [int.from_bytes(sample[:4], "big") for sample in taken[:5]] == [0, 2, 5, 7, 10]
    assert int.from_bytes(taken[-1][:4], "big") == 2497


@pytest.mark.parametrize(
    "samples",
    [[], [b""] * 500, [b"ok"] * 500, [PAGES[0]] * 500, PAGES[:9], [bytes([n]) for n in range(256)]],
    ids=["none", "empty", "tiny", "all the same", "few", "single bytes"],
)
def test_samples_that_give_no_dictionary_are_refused_and_the_message_says_what_would(samples):
    with pytest.raises(ValueError, match=f"give at least {MIN_SAMPLES} .* hundreds") as caught:
        train(samples)
    assert f"too few samples: {len(samples)} given, " in str(caught.value)


def test_ten_pages_are_enough_to_gain_something():
    plain, with_dictionary = gain(Dictionary(1, train(TRAINING[:MIN_SAMPLES])), HELD_OUT)
    assert with_dictionary > 1.3 * plain


def test_what_few_samples_have_in_common_is_not_torn_to_shreds():
    few = Dictionary(1, train(TRAINING[:: len(TRAINING) // 60]))
    assert gain(few, HELD_OUT).dictionary_ratio > 0.8 * gain(DICTIONARY, HELD_OUT).dictionary_ratio


@pytest.mark.parametrize("size", [MIN_SIZE, MIN_SIZE + 1, 20_000, MAX_SIZE])
def test_a_dictionary_is_no_larger_than_was_asked_for(size):
    content = train(TRAINING, size)
    assert size / 2 < len(content) <= size or size == MAX_SIZE
    assert gain(Dictionary(1, content), HELD_OUT).dictionary_ratio > 2


@pytest.mark.parametrize("size", [-1, 0, 255, MIN_SIZE - 1, MAX_SIZE + 1])
def test_a_size_out_of_bounds_is_refused(size):
    with pytest.raises(ValueError, match="4,096 to 1,048,576 bytes"):
        train(TRAINING, size)


# The library's trainer crashes where the samples have next to nothing in them.
def test_training_on_anything_gives_a_dictionary_or_an_error_and_never_a_crash():
    survives("""
        import random
        from blobstore.values.dictionaries import Dictionary, train
        chance, made = random.Random(1), 0
        for _ in range(150):
            least, most = chance.choice([(0, 1), (0, 9), (60, 70), (64, 64), (0, 300), (0, 70_000)])
            few = bytes(range(chance.choice([1, 2, 256]))) * 256
            samples = [
                chance.randbytes(chance.randint(least, most)).translate(few[:256])
                for _ in range(chance.choice([0, 9, 10, 11, 40]))
            ]
            try:
                content = train(samples, chance.choice([4096, 5000, 112_640]))
            except ValueError:
                continue
            made += 1
            dictionary = Dictionary(1, content)
            for sample in samples[:3]:
                assert dictionary.decompress(dictionary.compress(sample), len(sample)) == sample
        assert made > 20, made
    """)


def test_random_bytes_gain_nothing():
    noise = [os.urandom(5000) for _ in range(40)]
    plain, with_dictionary = gain(Dictionary(1, train(noise[:20])), noise[20:])
    assert 0.9 < with_dictionary <= plain < 1


@pytest.mark.parametrize("held_out", [[], [b"", b""]])
def test_a_gain_needs_values_to_be_judged_by(held_out):
    with pytest.raises(ValueError, match="not trained on"):
        gain(DICTIONARY, held_out)
