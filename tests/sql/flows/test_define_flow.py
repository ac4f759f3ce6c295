"""define_flow(): a whole definition at once, compared with the stored one."""

import psycopg
import pytest
from psycopg.types.json import Jsonb

from pgflow_events import Flow

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


# Maps, conditions, delays.

PATTERN = {"a": {"lang": "en"}}
RICH = {
    "step_type": "map",
    "required_input_pattern": PATTERN,
    "forbidden_input_pattern": {"a": {}},
    "when_unmet": "skip-cascade",
    "when_exhausted": "skip",
    "start_delay": 30,
    "tolerate": 0.5,
}


def rules(core, step_slug):
    return core.row(
        """
        select
          step_type, required_input_pattern, forbidden_input_pattern, when_unmet, when_exhausted,
          opt_start_delay, opt_tolerate
        from pgflow.steps where step_slug = %s
        """,
        step_slug,
    )


def plain(core):
    """The steps that are plain, in their order."""
    query = "select step_slug from pgflow.steps where is_plain order by step_index"
    return [row.step_slug for row in core.rows(query)]


def test_a_step_is_stored_with_what_skips_it_delays_it_and_divides_it(core):
    define(core, step("a"), step("b", "a", **RICH))
    assert tuple(rules(core, "b")) == tuple(RICH.values())
    assert tuple(rules(core, "a")) == ("single", None, None, "skip", "fail", None, None)


def test_what_is_null_in_a_definition_is_as_if_it_was_missing(core):
    define(core, step("a", **dict.fromkeys(RICH)))
    assert tuple(rules(core, "a")) == ("single", None, None, "skip", "fail", None, None)
    assert define(core, step("a", **dict.fromkeys(RICH))) == []


def test_a_rich_definition_again_changes_nothing(core):
    steps = step("a"), step("b", "a", **RICH), step("c", "b")
    define(core, *steps)
    before = row_versions(core)
    assert define(core, *steps) == []
    assert row_versions(core) == before


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"step_type": "single"}, "has the type single, the stored one map"),
        ({"step_type": None}, "has the type single, the stored one map"),
        (
            {"required_input_pattern": None},
            'requires nothing, the stored one {"a": {"lang": "en"}}',
        ),
        ({"forbidden_input_pattern": {"run": 1}}, 'forbids {"run": 1}, the stored one {"a": {}}'),
        ({"when_unmet": "fail"}, "has when_unmet fail, the stored one skip-cascade"),
        ({"when_unmet": None}, "has when_unmet skip, the stored one skip-cascade"),
        ({"when_exhausted": None}, "has when_exhausted fail, the stored one skip"),
    ],
)
def test_what_divides_and_skips_a_step_is_part_of_the_shape(core, change, difference):
    define(core, step("a"), step("b", "a", **RICH))
    assert define(core, step("a"), step("b", "a", **RICH | change)) == [f'step "b" {difference}']
    assert tuple(rules(core, "b")) == tuple(RICH.values())


def test_a_delay_and_what_a_map_may_lose_are_options(core):
    define(core, step("a"), step("b", "a", **RICH))
    changed = RICH | {"start_delay": None, "tolerate": 0.25}
    assert define(core, step("a"), step("b", "a", **changed)) == []
    assert tuple(rules(core, "b"))[-2:] == (None, 0.25)


def test_a_step_is_plain_if_it_and_all_before_it_are_so(core):
    steps = [step("a"), step("b", "a"), step("c", "b"), step("d", "a"), step("e", "c", "d")]
    define(core, *steps)
    assert plain(core) == ["a", "b", "c", "d", "e"]
    assert define(core, *[*steps[:1], step("b", "a", start_delay=1), *steps[2:]]) == []
    assert plain(core) == ["a", "d"]
    assert define(core, *[*steps[:1], step("b", "a", start_delay=0), *steps[2:]]) == []
    assert plain(core) == ["a", "b", "c", "d", "e"]
    assert define(core, *steps[:3], step("d", "a", tolerate=0.5), steps[4]) == []
    assert plain(core) == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    "option",
    [
        {"step_type": "map"},
        {"required_input_pattern": {}},
        {"forbidden_input_pattern": {"a": 1}},
        {"when_exhausted": "skip"},
        {"when_exhausted": "skip-cascade"},
        {"start_delay": 1},
    ],
)
def test_a_step_with_one_of_these_is_not_plain_nor_what_follows_it(core, option):
    define(core, step("a"), step("b", "a", **option), step("c", "b"), step("d", "a"))
    assert plain(core) == ["a", "d"]


@pytest.mark.parametrize("option", [{"when_unmet": "fail"}, {"step_type": "single"}])
def test_a_step_with_one_of_these_is_plain(core, option):
    define(core, step("a"), step("b", "a", **option))
    assert plain(core) == ["a", "b"]


@pytest.mark.parametrize(
    ("option", "constraint"),
    [
        ({"step_type": "double"}, "steps_step_type_check"),
        ({"required_input_pattern": "x"}, "required_input_pattern_is_object"),
        ({"forbidden_input_pattern": [{}]}, "forbidden_input_pattern_is_object"),
        ({"when_unmet": "ignore"}, "when_unmet_is_valid"),
        ({"when_exhausted": "retry"}, "when_exhausted_is_valid"),
        ({"start_delay": -1}, "opt_start_delay_is_nonnegative"),
        ({"tolerate": 1.5}, "opt_tolerate_is_share"),
    ],
)
def test_an_option_without_meaning_is_refused(core, option, constraint):
    with pytest.raises(psycopg.errors.CheckViolation, match=constraint):
        define(core, step("a", **option))


def test_a_map_over_two_steps_is_refused(core):
    with pytest.raises(psycopg.errors.RaiseException) as caught:
        define(core, step("a"), step("b"), step("c", "a", "b", step_type="map"))
    assert caught.value.diag.message_primary == (
        'Map step "c" can have at most one dependency, but 2 were provided: a, b'
    )


def test_the_definitions_of_python_are_stored_and_found_again(core):
    flow = Flow("rich")
    page = flow.step(flow.input, slug="page")(lambda run: run)
    links = flow.step(page, slug="links", run_if=page.contains({"html": True}))(lambda _: [])
    flow.step(links.each, flow.context, slug="each", lost="none")(lambda *_: 1)
    flow.step(flow.input.each, slug="root", exhausted="skip", start_delay=5)(lambda _: 1)
    flow.step(slug="late", run_unless=flow.input.contains({"fast": 1}), unmet="fail")(lambda: 1)
    for _ in range(2):
        stored = core.value("select pgflow.define_flow(%s)", Jsonb(flow.definition()))
        assert stored == []
    assert [tuple(rules(core, slug)) for slug in flow.steps] == [
        ("single", None, None, "skip", "fail", None, None),
        ("single", {"page": {"html": True}}, None, "skip", "fail", None, None),
        ("map", None, None, "skip", "fail", None, 1),
        ("map", None, None, "skip", "skip", 5, None),
        ("single", None, {"fast": 1}, "fail", "fail", None, None),
    ]
    assert plain(core) == ["page"]
