"""The value contract: what comes back, what is refused, and in which words."""

import dataclasses
import datetime
import enum
import math
import tracemalloc
import uuid
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blobstore.errors import ValueRefused, ValueTooLarge
from blobstore.postgres.ids import new_id
from blobstore.values.codec import Inline, Payload, pack, parse, restore, serialize, unpack
from blobstore.values.contract import is_brief

MIB = 1024 * 1024
CAP = MIB

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def through_blob(value: object) -> Any:
    payload = serialize(value, threshold=0, cap=CAP)
    assert isinstance(payload, Payload)
    size = payload.size(CAP)
    unpacked = unpack(*pack(payload, size), size)
    blob_id = new_id()
    return parse(blob_id, restore(blob_id, payload.kind, unpacked))


def kept(value: object, cap: int, threshold: int) -> bytes:
    form = serialize(value, threshold=threshold, cap=cap)
    if isinstance(form, Inline):
        return form.json
    form.size(cap)
    return b"".join(form.pieces())


def refused(value: object, cap: int = CAP, threshold: int = 8192) -> str:
    with pytest.raises(ValueRefused) as caught:
        kept(value, cap, threshold)
    return str(caught.value)


def nested(depth: int, kind: type) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    return value


@given(json_values | st.binary())
def test_what_is_accepted_comes_back_equal_and_of_the_same_types(value):
    # A repr tells types, the sign of zero and the order of keys apart; equality does not.
    assert repr(through_blob(value)) == repr(value)


@pytest.mark.parametrize("value", ["", 0, 0.0, -0.0, False, [], {}, None, b""], ids=repr)
def test_a_falsy_value_comes_back_as_itself(value):
    assert repr(through_blob(value)) == repr(value)


@pytest.mark.parametrize("value", [b"", b"abc", "a\0b", ["a\0b"], {"\0": 1}, -0.0, [1e16], [-1e16]])
def test_what_jsonb_cannot_hold_is_a_blob_however_small(value):
    assert isinstance(serialize(value, threshold=8192, cap=CAP), Payload)


@pytest.mark.parametrize(
    "value", ["\\u0000", "\\\\u0000", ["\\"], 0.0, 9999999999999998.0, 2**64 - 1]
)
def test_what_only_looks_like_it_stays_inline(value):
    assert isinstance(serialize(value, threshold=8192, cap=CAP), Inline)


def test_the_threshold_is_in_bytes_of_json():
    assert serialize("ä" * 5, threshold=12, cap=CAP) == Inline('"äääää"'.encode())
    assert serialize("ä" * 5, threshold=11, cap=CAP) == Payload("text", "äääää")
    assert serialize([1, 2], threshold=5, cap=CAP) == Inline(b"[1,2]")
    assert serialize([1, 2], threshold=4, cap=CAP) == Payload("json", b"[1,2]")


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Name(str):
    __slots__ = ()


@dataclasses.dataclass
class Page:
    title: str


Point = namedtuple("Point", "x y")  # noqa: PYI024 - the untyped form is the one people return


OUTSIDE = [
    ((1, 2), "tuple; give `list(value)` instead"),
    ({1}, "set; give `sorted(value)` instead"),
    (Colour.RED, "Colour; give `value.value`"),
    (Level.LOW, "Level; give `value.value`"),
    (Name("x"), "Name; give `str(value)`"),
    (OrderedDict(a=1), "collections.OrderedDict; give `dict(value)`"),
    (Page("x"), "Page; give `dataclasses.asdict(value)`"),
    (Point(1, 2), "Point; give `value._asdict()`"),
    (datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), "datetime; give `value.isoformat()`"),
    (uuid.UUID(int=0), "uuid.UUID; give `str(value)`"),
    (b"x", "bytes, which may only be the whole value; give `base64.b64encode"),
    (bytearray(b"x"), "bytearray; give `base64.b64encode(bytes(value))"),
    (iter(()), "tuple_iterator; give `list(value)`"),
    (object(), "object"),
    (int, "type"),
    (math.nan, "nan, a number JSON does not have"),
    (-math.inf, "-inf, a number JSON does not have"),
    (2**64, "an integer outside -2**63 to 2**64-1"),
    (-(2**63) - 1, "an integer outside"),
    ("ab\ud800", "a lone surrogate at index 2"),
    ({1: "x"}, "a key of type int, 1; keys must be str"),
    ({Name("x"): 1}, "Name, 'x'; keys must be str"),
    ({"\udcff": 1}, r"a lone surrogate in the key '\udcff'"),
]


@pytest.mark.parametrize(("value", "words"), OUTSIDE, ids=[words for _, words in OUTSIDE])
def test_a_refusal_names_the_place_the_reason_and_the_way_out(value, words):
    message = refused({"ok": [1], "pages": [{}, {}, {"n": 1}, {"title": value}]})
    assert message.startswith("$.pages[3].title ")
    assert words in message


def test_the_whole_value_is_the_place_where_there_is_none_inside():
    assert refused((1,)) == "$ is of type tuple; give `list(value)` instead"
    assert refused("\ud800" * 10_000).startswith("$ has a lone surrogate at index 0")


def test_a_refusal_is_text_that_a_database_takes():
    message = refused({"\0": {"k" * 500: {"\ud800\n" * 300: ()}}})
    assert message.encode()
    assert "\0" not in message
    assert message.startswith(r"$['\x00']['kkk")
    assert len(message) < 300


def test_a_long_path_is_shortened_in_its_middle():
    message = refused({"first": nested(252, dict) | {"last": ()}} | {"b": nested(200, list)})
    assert message == "$.first.last is of type tuple; give `list(value)` instead"
    value: object = ()
    for _ in range(250):
        value = {"step": value}
    assert refused(value).startswith("$.step.step")
    assert "…" in refused(value)
    assert len(refused(value)) < 300


@pytest.mark.parametrize("value", ["", 0, False, [], {}, None, "x", [1]], ids=repr)
def test_below_a_threshold_of_minus_one_nothing_is_inline(value):
    assert isinstance(serialize(value, threshold=-1, cap=CAP), Payload)


@pytest.mark.parametrize("kind", [list, dict])
def test_254_levels_come_back_and_the_255th_is_refused(kind):
    assert repr(through_blob(nested(254, kind))) == repr(nested(254, kind))
    assert "nested deeper than 254 levels" in refused(nested(255, kind))
    assert "nested deeper than 254 levels" in refused(nested(100_000, kind))


def test_a_value_that_holds_itself_is_refused():
    parent: dict[str, Any] = {"children": []}
    parent["children"] += [{"parent": parent}, {"parent": parent}]
    assert "does the value contain itself?" in refused(parent)


def test_a_shared_list_that_would_unfold_without_end_is_refused():
    value: list[object] = []
    for _ in range(100):
        value = [value, value]
    assert "the cap is" in refused(value)


def test_a_page_that_a_list_holds_a_thousand_times_is_refused_before_it_is_written():
    pages = [{"html": "x" * MIB}] * 1000
    tracemalloc.start()
    try:
        assert "the cap is" in refused(pages, cap=MIB)
        assert "the cap is" in refused(["x" * MIB] * 1000, cap=MIB)
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("threshold", [0, 8192])
@pytest.mark.parametrize(
    "value",
    ["x" * 101, "ä" * 51, b"x" * 101, ["x" * 98], [1] * 51, {"x" * 97: 1}],
    ids=["ascii", "two-byte text", "bytes", "text in a list", "list", "key"],
)
def test_one_byte_over_the_cap_is_refused_with_both_sizes(value, threshold):
    message = refused(value, cap=100, threshold=threshold)
    assert message.endswith("the cap is 100")
    assert "$ takes 10" in message


@pytest.mark.parametrize(
    "value",
    ["x" * 100, "ä" * 50, b"x" * 100, ["x" * 96], [1] * 49, {"x" * 94: 1}],
    ids=["ascii", "two-byte text", "bytes", "text in a list", "list", "key"],
)
def test_a_value_as_large_as_the_cap_is_kept(value):
    assert len(kept(value, cap=100, threshold=0)) <= 100


def test_the_cap_holds_for_inline_values_too():
    with pytest.raises(ValueTooLarge):
        serialize(["x" * 200], threshold=8192, cap=100)


anything = st.recursive(
    st.floats() | st.text(st.characters()) | st.integers() | st.binary() | st.just(()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
)


@given(anything)
def test_any_value_is_kept_exactly_or_refused_with_its_place(value):
    try:
        result = repr(through_blob(value))
    except ValueRefused as error:
        result = str(error)
    assert result == repr(value) or result.startswith("$")
    assert "cannot be written as JSON" not in result


BRIEF = [None, True, 7, 1.5, "x" * 1000, [], {"a": [1, "two", {}]}, [{"n": n} for n in range(30)]]
NOT_BRIEF = [b"", "x" * 1001, ["x" * 500] * 2, [0] * 63, [[0] * 40] * 2, (1,), Path(), {"a": {1}}]


def test_a_value_is_brief_if_json_has_it_and_it_is_small():
    assert [value for value in BRIEF if not is_brief(value)] == []
    assert [value for value in NOT_BRIEF if is_brief(value)] == []
    endless: list[object] = []
    endless += [endless]
    assert not is_brief(endless)
