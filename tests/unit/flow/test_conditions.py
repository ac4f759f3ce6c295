"""What a worker says of values that SQL cannot read."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from blobstore import Blob
from pgflow_events.flow.conditions import contains, facts
from pgflow_events.flow.flow import Flow


def takes_any(*_: object) -> int:
    return 0


def watched() -> Flow[Any]:
    flow: Flow[Any] = Flow("site")
    page = flow.step(flow.input, slug="page")(lambda run: run)
    flow.step(page, slug="plain")(takes_any)
    flow.step(page, run_if=page.contains({"lang": "en"}), slug="english")(takes_any)
    flow.step(
        page.blob,
        run_if=page.contains({}),
        run_unless=page.contains({"status": 404}),
        slug="found",
        unmet="fail",
    )(takes_any)
    flow.step(page, run_unless=flow.input.contains({"depth": 0}), slug="deep")(takes_any)
    flow.step(run_if=flow.input.contains({"news": True}), slug="news")(takes_any)
    return flow


def test_facts_name_what_each_condition_looks_for() -> None:
    flow = watched()
    page = flow.steps["page"]
    assert facts(page, {"lang": "en", "status": 404}) == {
        "english": {"required": True},
        "found": {"required": True, "forbidden": True},
    }
    assert facts(page, b"<html>") == {
        "english": {"required": False},
        "found": {"required": False, "forbidden": False},
    }
    assert facts(flow.input, {"depth": 0}) == {
        "deep": {"forbidden": True},
        "news": {"required": False},
    }


def test_a_step_knows_what_is_looked_for_in_its_output() -> None:
    flow = watched()
    assert flow.steps["page"].watchers == {
        "english": {"required": {"lang": "en"}},
        "found": {"required": {}, "forbidden": {"status": 404}},
    }
    assert flow.steps["english"].watchers == {}


def test_there_are_no_facts_where_nothing_looks() -> None:
    flow = watched()
    assert facts(flow.steps["english"], 1) is None
    assert facts(Flow("empty").input, {}) is None


async def stream() -> Any:
    yield b""


def test_a_value_that_is_not_at_hand_has_no_facts() -> None:
    page = watched().steps["page"]
    for value in (Path("page"), Blob.of(UUID(int=1), {"lang": "en"}), stream()):
        assert facts(page, value) is None


@pytest.mark.parametrize(
    ("value", "pattern", "is_contained"),
    [
        (["a"], "a", False),
        ("a", ["a"], False),
        ([["a", "b"]], [["b"]], True),
        ([["a"], ["b"]], [["a", "b"]], False),
        ([1], [1, 1], True),
        ([{"a": 1, "b": 2}], [{"a": 1}, {"b": 2}], True),
        ([], {}, False),
        ({"a": []}, {"a": [[]]}, False),
        (1, 1.0, True),
        (True, 1, False),
        ([0], [False], False),
        (0, -0.0, True),
        (2**63, float(2**63), False),  # JSON has 9223372036854775808 and 9.223372036854776e18
        (10**18, 1e18, True),
        ("é", "e\u0301", False),
        (None, False, False),
        ([b"a"], ["a"], False),
        ([b"a", "a"], ["a"], True),
    ],
)
def test_a_value_contains_what_jsonb_would_contain(
    value: Any, pattern: Any, is_contained: bool
) -> None:
    assert contains(value, pattern) is is_contained


def test_a_long_list_is_walked_once_for_all_the_texts_of_a_pattern() -> None:
    many = [str(number) for number in range(100_000)]
    assert contains(many, many)
    assert not contains(many[1:], many)
