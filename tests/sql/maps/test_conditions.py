"""Conditions decide as a plain evaluation of them does, in chains and cascades of any length."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from blobstore.postgres.ids import new_id

from ...parts.models.containment import contains
from ...parts.models.general_flows import Shape, Step, define, shapes, values
from ...parts.models.general_model import Run

CONTAINS = "select jsonb_build_object('it', %s::jsonb) @> jsonb_build_object('it', %s::jsonb)"
STATES = "select step_slug, status, skip_reason, output from pgflow.step_states where run_id = %s"
LONG = 200
MET, UNMET = {"k": 1}, {"k": 2}  # by the input {"k": 1}

# Numbers that are equal as JSON and as Python values alike.
leaves = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.5, "", "x", "k"])
keys = st.sampled_from(["k", "l", ""])
trees = st.recursive(
    leaves, lambda t: st.lists(t, max_size=3) | st.dictionaries(keys, t, max_size=3), max_leaves=8
)
# A call in a transaction that is rolled back leaves nothing to the next example.
in_turn = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@in_turn
@given(value=trees, pattern=trees)
def test_a_value_contains_what_jsonb_says(core, value, pattern):
    assert core.value(CONTAINS, Jsonb(value), Jsonb(pattern)) == contains(value, pattern)


@in_turn
@given(shape=shapes("f", most=14), value=values, data=st.data())
def test_steps_are_skipped_and_started_as_a_plain_evaluation_has_it(core, shape, value, data):
    """As far as a run gets by its start alone."""
    if shape.has_root_map:
        value = data.draw(st.sampled_from([[], [], [1]]))
    with core.db.transaction(force_rollback=True):
        run = started(core, shape, value)
        assert core.run(run.id).status == run.status
        if run.status != "failed":
            assert states(core, run) == {
                slug: (each.status, each.reason, each.output if each.step.is_map else None)
                for slug, each in run.states.items()
            }


def started(core, shape: Shape, value: Any) -> Run:
    """Start a run in SQL and in the model."""
    core.flow()
    define(core, shape)
    run = Run(new_id(), shape, value)
    core.rows("select from pgflow.start_flow('f', %s, %s)", Jsonb(value), run.id)
    run.settle()
    return run


def states(core, run: Run) -> dict[str, tuple]:
    return {slug: tuple(rest) for slug, *rest in core.rows(STATES, run.id)}


def chain(first: Step, **options: Any) -> Shape:
    """A long chain of steps, each of which waits for the one before it."""
    steps = [first]
    for n in range(LONG):
        steps.append(Step(f"s{n}", (steps[-1].slug,), **options))
    return Shape("f", tuple(steps))


def test_a_long_chain_is_skipped_step_by_step_and_the_run_ends(core):
    """Each lacks the step before it, which its condition names."""
    shape = chain(Step("first", required=UNMET))
    for before, step in pairwise(shape.steps):
        step.required = {before.slug: {}}
    run = started(core, shape, MET)
    assert {each[:2] for each in states(core, run).values()} == {("skipped", "condition_unmet")}
    assert (core.run(run.id).status, core.run(run.id).output) == ("completed", None)


def test_a_long_chain_is_skipped_at_once_by_a_cascade(core):
    run = started(core, chain(Step("first", required=UNMET, unmet="skip-cascade")), MET)
    reasons = {slug: reason for slug, (_, reason, _) in states(core, run).items()}
    assert reasons.pop("first") == "condition_unmet"
    assert list(reasons.values()) == ["dependency_skipped"] * LONG
    assert core.run(run.id).status == "completed"


def test_a_long_chain_of_empty_maps_ends_in_one_call(core):
    run = started(core, chain(Step("first", is_map=True), is_map=True), [])
    assert {(status, tuple(o)) for status, _, o in states(core, run).values()} == {
        ("completed", ())
    }
    assert core.run(run.id).output == {f"s{LONG - 1}": []}


@pytest.mark.parametrize("unmet", ["skip", "skip-cascade"])
def test_a_wide_step_is_skipped_with_all_that_depends_on_it(core, unmet):
    """Rows of steps, each of which depends on all of the row before."""
    rows = [("top",)] + [tuple(f"r{n}_{m}" for m in range(12)) for n in range(6)]
    top = Step("top", required=UNMET, unmet=unmet)
    below = [
        Step(slug, before, required={slug: {} for slug in before} if unmet == "skip" else None)
        for before, row in pairwise(rows)
        for slug in row
    ]
    run = started(core, Shape("f", (top, *below)), MET)
    assert {status for status, *_ in states(core, run).values()} == {"skipped"}
    assert core.run(run.id).status == "completed"
