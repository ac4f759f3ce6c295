"""define_flow(): a whole definition at once, compared with the stored one."""

import pytest
from psycopg.types.json import Jsonb

DEFAULTS = {"max_attempts": 3, "base_delay": 5, "timeout": 60, "blob_threshold": 8192}


def definition(*steps, slug="f", **options):
    return {"flow_slug": slug, **DEFAULTS, **options, "steps": list(steps)}


def step(slug, *deps, **options):
    return {"step_slug": slug, "deps_slugs": list(deps), **options}


def define(core, *steps, **options):
    return core.value("select pgflow.define_flow(%s)", Jsonb(definition(*steps, **options)))


def flow_options(core):
    return core.row(
        "select opt_max_attempts, opt_base_delay, opt_timeout, opt_blob_threshold from pgflow.flows"
    )


def row_versions(core):
    return core.rows(
        """
        select 'flow', ctid::text from pgflow.flows
        union all select 'step', ctid::text from pgflow.steps
        """
    )


def test_a_new_flow_is_stored_in_order_with_its_options(core):
    assert define(core, step("a"), step("b", "a", timeout=7), timeout=9) == []
    assert tuple(flow_options(core)) == (3, 5, 9, 8192)
    stored = core.rows(
        "select step_slug, deps_count, opt_timeout from pgflow.steps order by step_index"
    )
    assert [tuple(row) for row in stored] == [("a", 0, None), ("b", 1, 7)]


def test_the_same_definition_again_changes_nothing(core):
    steps = step("a"), step("b", "a", max_attempts=2)
    define(core, *steps)
    before = row_versions(core)
    assert define(core, *steps) == []
    assert row_versions(core) == before


def test_options_that_differ_are_set(core):
    define(core, step("a", max_attempts=2, timeout=5), max_attempts=4)
    assert define(core, step("a", base_delay=1, blob_threshold=0), timeout=8) == []
    assert tuple(flow_options(core)) == (3, 5, 8, 8192)
    stored = core.row(
        "select opt_max_attempts, opt_base_delay, opt_timeout, opt_blob_threshold from pgflow.steps"
    )
    assert tuple(stored) == (None, 1, None, 0)


@pytest.mark.parametrize(
    ("steps", "differences"),
    [
        ([step("a"), step("b", "a"), step("c")], ['step "c" is not stored']),
        ([step("a")], ['step "b" is stored, but not defined']),
        ([step("a"), step("b")], ['step "b" depends on {}, the stored one on {a}']),
        (
            [step("b", "a"), step("a")],
            [
                'step "b" is number 1, the stored one number 2',
                'step "a" is number 2, the stored one number 1',
            ],
        ),
    ],
)
def test_a_definition_of_another_shape_is_told_how_it_differs(core, steps, differences):
    define(core, step("a"), step("b", "a"))
    assert define(core, *steps) == differences


def test_a_definition_of_another_shape_changes_no_options(core):
    define(core, step("a", timeout=5), timeout=9)
    define(core, step("a", timeout=6), step("b"), timeout=10)
    assert flow_options(core).opt_timeout == 9
    assert core.value("select opt_timeout from pgflow.steps") == 5


def test_the_order_in_which_dependencies_are_named_is_no_difference(core):
    define(core, step("a"), step("b"), step("c", "a", "b"))
    assert define(core, step("a"), step("b"), step("c", "b", "a")) == []


def test_a_dependency_that_is_named_twice_is_no_difference(core):
    assert define(core, step("a"), step("b", "a", "a")) == []


def test_a_flow_defined_by_single_calls_can_be_defined_again_as_a_whole(core):
    core.flow("a", "b<a", timeout=9)
    assert define(core, step("a"), step("b", "a"), timeout=9) == []


def test_a_flow_may_be_defined_without_steps(core):
    assert define(core) == []
    assert core.run(core.start()).status == "completed"
