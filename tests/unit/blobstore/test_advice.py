"""What a refusal advises, followed to the letter, gives a value that is accepted."""

import argparse
import array
import ast
import base64
import collections
import collections.abc
import contextlib
import dataclasses
import datetime
import decimal
import email.message
import enum
import fractions
import http.cookies
import io
import ipaddress
import itertools
import json
import mmap
import os
import pathlib
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import types
import uuid
import xml.etree.ElementTree
import zoneinfo
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import attr
import attrs
import numpy
import PIL.Image
import pydantic
import pytest
import requests
import trio

from blobstore import ValueRefused
from blobstore.values.advice import BYTES, INSTEAD, advice
from blobstore.values.codec import serialize

# What an advice may name.
MODULES = {
    "attrs": attrs, "base64": base64, "dataclasses": dataclasses, "io": io,
    "itertools": itertools, "json": json, "os": os, "pathlib": pathlib, "xml": xml,
}  # fmt: skip
NOW = datetime.datetime(2026, 1, 1, 12, 30, tzinfo=datetime.UTC)
MOST = 4  # times that an advice is followed: the list of a tuple's items may hold tuples


class Colour(enum.Enum):
    RED = "red"
    BOTH = ("red", "blue")


class Level(enum.IntEnum):
    LOW = 1


class Name(enum.StrEnum):
    X = "x"


class Flags(enum.Flag):
    A = 1
    B = 2


class Word(str):
    __slots__ = ()


class Count(int):
    pass


class Share(float):
    pass


class Items(list):
    pass


class Point(NamedTuple):
    x: int
    at: datetime.datetime


@dataclasses.dataclass
class Plain:
    title: str
    words: list[str]


@dataclasses.dataclass
class Rich:
    at: datetime.datetime
    price: decimal.Decimal
    inner: Plain


@attr.s(auto_attribs=True)
class Attributed:
    at: datetime.datetime


class Model(pydantic.BaseModel):
    at: datetime.datetime
    id: uuid.UUID
    price: decimal.Decimal
    tags: set[str]
    colour: Colour


class Lazy(collections.abc.Mapping):
    def __getitem__(self, key: str) -> int:
        return {"a": 1}[key]

    def __iter__(self) -> Iterator[str]:
        return iter("a")

    def __len__(self) -> int:
        return 1


class Shop:
    def __init__(self) -> None:
        self.name, self.opened = "x", NOW


class Shelf:
    def __iter__(self) -> Iterator[Any]:
        return iter((1, NOW))


class Frame:
    def to_dict(self) -> dict[str, Any]:
        return {"a": NOW}


class Vector:
    def tolist(self) -> list[int]:
        return [1]


class Raw(bytes):
    pass


class Bare:
    __slots__ = ()


class Somewhere:
    def __fspath__(self) -> str:
        return "/somewhere"


def generator() -> Iterator[Any]:
    yield from (1, NOW, (2, 3))


async def coroutine() -> list[int]:
    await trio.lowlevel.checkpoint()
    return [1]


async def stream() -> Any:
    yield 1
    yield 2


def row() -> sqlite3.Row:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    try:
        return connection.execute("select 1 as a, 'b' as b").fetchone()
    finally:
        connection.close()


def response() -> requests.Response:
    answer = requests.Response()
    answer._content, answer.status_code, answer.encoding = b"<p>\xc3\xa4", 200, "utf-8"
    return answer


def message() -> email.message.Message:
    mail = email.message.EmailMessage()
    mail.set_content("hello")
    return mail


FILES = contextlib.ExitStack()  # closed when all tests are done


def temporary() -> Any:
    file = tempfile.NamedTemporaryFile()  # noqa: SIM115 - FILES closes it
    FILES.push(file)
    file.write(b"content")
    file.flush()
    return file


def spooled() -> Any:
    file = tempfile.SpooledTemporaryFile()  # noqa: SIM115 - FILES closes it
    FILES.push(file)
    file.write(b"content")
    file.seek(0)
    return file


@pytest.fixture(scope="module", autouse=True)
def _close_files() -> Iterator[None]:
    with FILES:
        yield


def mapped() -> mmap.mmap:
    memory = mmap.mmap(-1, 4)
    memory.write(b"abcd")
    return memory


def enumerated() -> Any:
    return enumerate("ab")


def matched() -> re.Match[str]:
    found = re.search("b", "abc")
    assert found
    return found


def done() -> "subprocess.CompletedProcess[str]":
    return subprocess.CompletedProcess(["true"], 0, stdout="out")


STDLIB: dict[str, Callable[[], Any]] = {
    "tuple": lambda: (1, (2, NOW)),
    "set": lambda: {"b", "a"},
    "set of sorts": lambda: {1, "a", (2,)},
    "frozenset": lambda: frozenset({1}),
    "bytearray": lambda: bytearray(b"\xff"),
    "memoryview": lambda: memoryview(b"\xff"),
    "complex": lambda: 1 + 2j,
    "range": lambda: range(3),
    "keys": {"a": 1}.keys,
    "values": {"a": 1}.values,
    "items": {"a": 1}.items,
    "zip": lambda: zip("ab", "cd", strict=True),
    "enumerate": enumerated,
    "map": lambda: map(str, [1]),
    "filter": lambda: filter(None, [1]),
    "count": itertools.count,
    "cycle": lambda: itertools.cycle("ab"),
    "repeat": lambda: itertools.repeat("a"),
    "reversed": lambda: reversed([1, 2]),
    "generator": generator,
    "coroutine": coroutine,
    "asynchronous generator": stream,
    "exception": lambda: ValueError("no"),
    "a class": lambda: int,
    "str subclass": lambda: Word("x"),
    "int subclass": lambda: Count(1),
    "float subclass": lambda: Share(0.5),
    "list subclass": lambda: Items([1]),
    "bytes subclass": lambda: Raw(b"\xff"),
    "a class of one's own": Shop,
    "what can be gone through": Shelf,
    "what has to_dict": Frame,
    "what has tolist": Vector,
    "Enum": lambda: Colour.RED,
    "Enum of a tuple": lambda: Colour.BOTH,
    "IntEnum": lambda: Level.LOW,
    "StrEnum": lambda: Name.X,
    "Flag": lambda: Flags.A | Flags.B,
    "NamedTuple": lambda: Point(1, NOW),
    "urlsplit": lambda: urlsplit("http://a/b"),
    "dataclass": lambda: Plain("x", ["y"]),
    "dataclass with more": lambda: Rich(NOW, decimal.Decimal("1.5"), Plain("x", [])),
    "datetime": lambda: NOW,
    "date": NOW.date,
    "time": NOW.time,
    "timedelta": lambda: datetime.timedelta(seconds=1.5),
    "timezone": lambda: datetime.UTC,
    "ZoneInfo": lambda: zoneinfo.ZoneInfo("UTC"),
    "Decimal": lambda: decimal.Decimal("1.10"),
    "Fraction": lambda: fractions.Fraction(1, 3),
    "UUID": lambda: uuid.UUID(int=1),
    "Path": lambda: pathlib.PurePath("/a"),
    "PathLike": Somewhere,
    "IPv4Address": lambda: ipaddress.ip_address("127.0.0.1"),
    "IPv6Network": lambda: ipaddress.ip_network("::/8"),
    "re.Pattern": lambda: re.compile("a"),
    "re.Match": matched,
    "BytesIO": lambda: io.BytesIO(b"\xff"),
    "StringIO": lambda: io.StringIO("text"),
    "text file": lambda: io.TextIOWrapper(io.BytesIO(b"text"), "utf-8"),
    "binary file": lambda: io.BufferedReader(io.BytesIO(b"\xff")),  # type: ignore[arg-type]
    "temporary file": temporary,
    "spooled file": spooled,
    "mmap": mapped,
    "array": lambda: array.array("i", [1, 2]),
    "deque": lambda: collections.deque([1]),
    "Counter": lambda: collections.Counter("aab"),
    "defaultdict": lambda: collections.defaultdict(list, a=[1]),
    "OrderedDict": lambda: collections.OrderedDict(a=1),
    "ChainMap": lambda: collections.ChainMap({"a": 1}),
    "UserDict": lambda: collections.UserDict(a=1),
    "UserList": lambda: collections.UserList([1]),
    "UserString": lambda: collections.UserString("x"),
    "MappingProxyType": lambda: types.MappingProxyType({"a": 1}),
    "Mapping": Lazy,
    "SimpleNamespace": lambda: types.SimpleNamespace(a=1),
    "Namespace": lambda: argparse.Namespace(a=1),
    "Row": row,
    "EmailMessage": message,
    "SimpleCookie": lambda: http.cookies.SimpleCookie("a=b"),
    "Element": lambda: xml.etree.ElementTree.fromstring("<a>b</a>"),
    "CompletedProcess": done,
    "stat_result": lambda: os.stat(os.curdir),  # noqa: PTH116 - its answer is the value
    "large int": lambda: 2**64,
    "vast int": lambda: 10**5000,
    "NaN": lambda: float("nan"),
    "lone surrogate": lambda: "a\ud800",
    "int keys": lambda: {1: "a", 2: (3,)},
    "surrogate in a key": lambda: {"a\ud800": 1},
}
THIRD_PARTIES: dict[str, Callable[[], Any]] = {
    "attrs": lambda: Attributed(NOW),
    "ndarray": lambda: numpy.array([[1.5, 2.0]]),
    "datetime64": lambda: numpy.datetime64("2026-01-01T00:00:00"),
    "float64": lambda: numpy.float64(1.5),
    "int64": lambda: numpy.int64(1),
    "bool_": lambda: numpy.bool_(True),
    "Image": lambda: PIL.Image.new("RGB", (2, 2)),
    "BaseModel": lambda: Model(
        at=NOW, id=uuid.UUID(int=1), price=decimal.Decimal(1), tags={"a"}, colour=Colour.RED
    ),
    "HttpUrl": lambda: pydantic.TypeAdapter(pydantic.HttpUrl).validate_python("http://a/"),
    "Response": response,
}
VALUES = STDLIB | THIRD_PARTIES
ADVICE = re.compile(r"^\$(\S*) .*; give `(.*)` instead$", re.DOTALL)


def refusal_of(value: Any) -> str | None:
    """Why a value is refused, if it is."""
    try:
        serialize(value, threshold=8192, cap=10**7)
    except ValueRefused as error:
        return str(error)
    return None


async def result_of(expression: str, value: Any) -> Any:
    """What an advice gives, in a program that has imported what it names."""
    code = compile(expression, "advice", "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, {**MODULES, "value": value})
    return await result if code.co_flags & 0x80 else result  # inspect.CO_COROUTINE


async def followed(value: Any) -> Any:
    """What becomes of a value if each advice is followed where it belongs."""
    box = [value]
    for _ in range(MOST * 10):
        refused = refusal_of(box[0])
        if refused is None:
            return box[0]
        found = ADVICE.match(refused)
        assert found, refused
        steps = [ast.literal_eval(step) for step in re.findall(r"\[(.*?)\]", as_items(found[1]))]
        holder: Any = box
        place: Any = 0
        for step in steps:
            holder, place = holder[place], step
        holder[place] = await result_of(found[2], holder[place])
    raise AssertionError(refusal_of(box[0]))


def as_items(path: str) -> str:
    """A path with each step in brackets."""
    return re.sub(r"\.(\w+)", r"['\1']", path)


@pytest.mark.parametrize("name", VALUES)
async def test_the_advice_gives_a_value_that_is_accepted(name: str) -> None:
    assert refusal_of(await followed(VALUES[name]())) is None


@pytest.mark.parametrize("name", VALUES)
async def test_the_advice_holds_inside_another_value_too(name: str) -> None:
    assert refusal_of(await followed({"pages": [1, VALUES[name]()]})) is None


async def test_bytes_inside_another_value_become_a_text() -> None:
    assert "which may only be the whole value" in (refusal_of([b"\xff"]) or "")
    assert await followed([b"\xff"]) == ["/w=="]


async def test_nothing_of_a_value_is_lost_on_the_way() -> None:
    assert await followed(io.BytesIO(b"\xff")) == b"\xff"
    assert await followed(memoryview(b"\xff")) == b"\xff"
    assert await followed(response()) == "<p>ä"
    assert await followed(Plain("x", ["y"])) == {"title": "x", "words": ["y"]}
    assert await followed(Rich(NOW, decimal.Decimal("1.5"), Plain("x", []))) == {
        "at": str(NOW), "price": "1.5", "inner": {"title": "x", "words": []},
    }  # fmt: skip
    png = await followed(PIL.Image.new("RGB", (2, 3)))
    with PIL.Image.open(io.BytesIO(png)) as image:
        assert image.size == (2, 3)


def test_what_nobody_has_an_advice_for_is_sent_to_the_page_on_values() -> None:
    for value in (
        object(),
        lambda: 1,
        sys,
        threading.Lock(),
        subprocess,
        threading.Thread(),
        Bare(),
    ):
        told = refusal_of(value) or ""
        assert f"is of type {type(value).__name__}" in told.replace(
            f"{type(value).__module__}.", ""
        )
        assert "; give text or JSON made from it instead (docs/guide/values.md" in told


def test_a_value_that_fails_when_it_is_looked_at_is_refused_all_the_same() -> None:
    class Hostile(type):
        def __getattribute__(cls, name: str) -> Any:
            if name == "__attrs_attrs__":
                raise RuntimeError("no")
            return super().__getattribute__(name)

    class Value(metaclass=Hostile):
        pass

    assert "Value; give text or JSON" in (refusal_of(Value()) or "")


OTHERS = [name for name in [*INSTEAD, *BYTES] if not name.startswith(("builtins", "_io"))]


@pytest.mark.parametrize("name", OTHERS)
def test_a_type_is_known_by_its_topmost_module_and_its_name(name: str) -> None:
    module, _, kind = name.partition(".")
    made = type(kind, (), {"__module__": f"{module}.core.frame", "__qualname__": kind})
    derived = type("Mine", (made,), {"__module__": "mine"})
    assert advice(derived(), whole=True) == (INSTEAD | BYTES)[name]
    compile((INSTEAD | BYTES)[name], "advice", "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
