"""Python and PostgreSQL agree on which values contain a pattern."""

import orjson
import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgflow_events.flow.conditions import contains

CONTAINS = """
select jsonb_build_object('page', v) @> jsonb_build_object('page', p)
from unnest(%s::jsonb[], %s::jsonb[]) with ordinality as e (v, p, n) order by n
"""

# Few texts and numbers, so that they meet.
TEXTS = ["", "a", "b", "é", "e\u0301", "\U0001f600", "\\u0000", '"', "1", "null", "true"]
FAR = [2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)]
NUMBERS = [0, -0.0, 1, 1.0, 1.5, 1e-300, 1e300, 5e-324, 10**18, 1e18, 0.1]
ALONE = [None, True, False, *TEXTS, *NUMBERS, *FAR, *map(float, FAR)]
WORDS, SCALARS = st.sampled_from(TEXTS), st.sampled_from(ALONE)


def lists_and_objects(parts: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(parts, max_size=4) | st.dictionaries(WORDS, parts, max_size=3)


JSON = st.recursive(SCALARS, lists_and_objects, max_leaves=12)


@st.composite
def values_and_patterns(draw: st.DrawFn) -> tuple[object, object]:
    """A value, and a pattern that is often a part of it, or nearly one."""
    value = draw(JSON)
    return value, draw(JSON) if draw(st.integers(0, 3)) == 0 else part_of(draw, value)


def part_of(draw: st.DrawFn, value: object) -> object:
    if draw(st.integers(0, 12)) == 0:
        return draw(JSON)
    if isinstance(value, dict):
        return {key: part_of(draw, part) for key, part in value.items() if draw(st.booleans())}
    if isinstance(value, list):
        taken = draw(st.lists(st.sampled_from(value), max_size=4)) if value else []
        return [part_of(draw, part) for part in taken]
    return float(value) if isinstance(value, int) and draw(st.booleans()) else value


def agree(db: psycopg.Connection[tuple[bool]], pairs: list[tuple[object, object]]) -> None:
    texts = [
        [orjson.dumps(half).decode() for half in halves] for halves in zip(*pairs, strict=True)
    ]
    answers = [answer for (answer,) in db.execute(CONTAINS, texts)]
    # As the worker has them: what a handler returned, or what was read again.
    assert [contains(value, pattern) for value, pattern in pairs] == answers
    read = [map(orjson.loads, pair) for pair in zip(*texts, strict=True)]
    assert [contains(value, pattern) for value, pattern in read] == answers


def test_python_and_postgresql_agree_on_what_is_equal(db: psycopg.Connection[tuple[bool]]) -> None:
    pairs = [(value, pattern) for value in ALONE for pattern in [*ALONE, [], {}]]
    agree(db, pairs)
    agree(db, [([[], value, {}], [pattern]) for value, pattern in pairs])
    agree(db, [({"a": value}, {"a": pattern}) for value, pattern in pairs])
    agree(db, [([value], pattern) for value, pattern in pairs])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(values_and_patterns(), min_size=1, max_size=40))
def test_python_and_postgresql_agree_on_what_contains_what(
    db: psycopg.Connection[tuple[bool]], pairs: list[tuple[object, object]]
) -> None:
    agree(db, pairs)
