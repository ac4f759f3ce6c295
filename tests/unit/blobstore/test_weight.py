"""JSON is refused by what its objects would take, before they are made."""

import subprocess
import sys
from collections.abc import Iterable
from functools import partial

import pytest

from blobstore import ValueTooLarge
from blobstore.values import weight
from blobstore.values.codec import Inline, serialize
from blobstore.values.weight import LIGHT, MOST, check_weight

MIB = 1024 * 1024
COUNT = 200_000
SHAPES = (
    "[]", "{}", '{"":0}', "[0]", "0.5", "257", '"aa"', "1", "[[]]", '{"":{}}', '{"a":0.5,"b":0.5}',
    '{"a":0.5,"b":0.5,"c":0.5,"d":0.5,"e":"aa","f":1}', "[1.5,1.5,1.5,1.5,1.5]", '"é€"', "null",
)  # fmt: skip

# Each shape in a process of its own, which has taken no memory before that could be used again.
PROGRAM = """
import os, sys, orjson
from blobstore.values.weight import weight, widest
def taken():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
for file in sys.argv[1:]:
    if not os.fork():
        with open(file, "rb", buffering=0) as opened:
            raw = opened.readall()
        before = taken()
        value = orjson.loads(raw)
        print(taken() - before, weight(raw) + widest(raw) + len(raw), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0
"""


# A forger's row: some kilobytes of zstd, of 64 MiB of lists.
BOMB = """
import trio, zstandard
from hashlib import sha256
from uuid import uuid4
from blobstore import Blobs, ValueTooLarge
from blobstore.postgres.rows import BlobRow
raw = b"[" + b"[]," * (64 * 2**20 // 3) + b"[]]"
content = zstandard.ZstdCompressor(level=3).compress(raw)
assert len(content) < 10_000
row = BlobRow(uuid4(), uuid4(), "s", 0, "json", codec="zstd", content=content,
              raw_size=len(raw), sha256=sha256(raw).digest())
async def make(call):
    return [row]
async def load():
    try:
        await (await Blobs(make).load([row.id])).get(row.id)
    except ValueTooLarge as error:
        assert str(row.id) in str(error)
    else:
        print("loaded")
del raw
trio.run(load)
print(int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024)
"""


def test_a_bomb_of_lists_is_refused_before_it_fills_the_memory():
    bombed = [sys.executable, "-c", BOMB]
    answer = subprocess.run(bombed, capture_output=True, text=True, check=True)
    assert int(answer.stdout) < 400 * MIB


def listed(shape: str, count: int) -> bytes:
    return listed_all([shape] * count)


def listed_all(shapes: Iterable[str]) -> bytes:
    return f"[{','.join(shapes)}]".encode()


# What the count does not know: how deep it is, that each key is another one, wide characters.
HOSTILE = {
    "deep lists": lambda: listed("[" * 200 + "]" * 200, COUNT // 20),
    "as deep as can be": lambda: listed("[" * 1000 + "]" * 1000, COUNT // 100),
    "deep dicts": lambda: listed('{"":' * 200 + "1" + "}" * 200, COUNT // 50),
    "other keys": lambda: listed_all(f'{{"{n:x}":1}}' for n in range(COUNT)),
    "other long keys": lambda: listed_all(f'{{"{n:065x}":1}}' for n in range(COUNT // 4)),
    "one dict": lambda: b"{%b}" % b",".join(b'"%x":%d.5' % (n, n) for n in range(COUNT)),
    "the same key": lambda: b"{%b}" % b",".join([b'"a":[]'] * COUNT),
    "large numbers": lambda: listed("18446744073709551615", COUNT),
    "a text, one wide": lambda: listed(f'"{"a" * 8_000_000}\U0001f600"', 1),
    "a text, one of two bytes": lambda: listed(f'"{"a" * 8_000_000}\u6f22"', 1),
    "texts, one wide in each": lambda: listed(f'"{"a" * 100}\U0001f600"', COUNT // 4),
    "escaped": lambda: listed('"' + "a" * 100 + r'\ud83d\ude00"', COUNT // 4),
    "wide keys": lambda: listed_all(f'{{"{n:x}\U0001f600":1}}' for n in range(COUNT)),
}


ALL = {shape: partial(listed, shape, COUNT) for shape in SHAPES} | HOSTILE


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[int]]:
    """What each JSON takes, and what it is said to take."""
    folder = tmp_path_factory.mktemp("shapes")
    files = [folder / str(n) for n in range(len(ALL))]
    for file, make in zip(files, ALL.values(), strict=True):
        file.write_bytes(make())
    command = [sys.executable, "-c", PROGRAM, *map(str, files)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [[*map(int, line.split())] for line in answer.stdout.splitlines()]
    return dict(zip(ALL, lines, strict=True))


@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_takes_more_than_it_is_said_to(shape, measured):
    took, said = measured[shape]
    assert took < 1.1 * said + MIB


@pytest.mark.parametrize("shape", HOSTILE)
def test_no_hostile_json_takes_twice_what_it_is_said_to(shape, measured):
    took, said = measured[shape]
    assert took < 2 * said + MIB


def test_wide_characters_count_where_they_stand(monkeypatch):
    monkeypatch.setattr(weight, "LIGHT", 0)
    monkeypatch.setattr(weight, "MOST", 10_000)
    wide = '"' + "a" * 3000 + "\U0001f600" + '"'
    check_weight(f"[{wide}]".encode())
    check_weight(f'[{wide},"{"a" * 100_000}"]'.encode())  # one byte each in the second
    with pytest.raises(ValueTooLarge):
        check_weight(f"[{wide},{wide}]".encode())


@pytest.mark.parametrize("shape", ["[]", "{}", '{"":0}', "[0]", '{"":{}}'])
def test_containers_in_great_numbers_are_refused(shape, monkeypatch):
    monkeypatch.setattr(weight, "LIGHT", LIGHT // 16)
    monkeypatch.setattr(weight, "MOST", MOST // 16)
    with pytest.raises(ValueTooLarge, match="as Python objects"):
        check_weight(listed(shape, MOST // 16 // 64))


def test_what_looks_like_containers_in_a_text_is_none(monkeypatch):
    monkeypatch.setattr(weight, "LIGHT", 0)
    monkeypatch.setattr(weight, "MOST", 10_000)
    page = '"' + r"{[,:\"\\" * 10_000 + '"'
    check_weight(f'[{page},{page},{{"key {{":{page}}}]'.encode())
    with pytest.raises(ValueTooLarge):
        check_weight(f"[{page},{','.join(['{}'] * 100)}]".encode())


def test_what_is_light_is_not_looked_at():
    for shape in SHAPES:
        assert weight.weight(listed(shape, LIGHT // (len(shape) + 1))) <= MOST + 100


def test_what_no_reader_could_hold_is_not_stored(monkeypatch):
    monkeypatch.setattr(weight, "LIGHT", 0)
    monkeypatch.setattr(weight, "MOST", 10_000)
    assert isinstance(serialize([[]] * 50, threshold=1000, cap=MIB), Inline)
    with pytest.raises(ValueTooLarge, match="keep it as text or bytes"):
        serialize([[]] * 500, threshold=1000, cap=MIB)
