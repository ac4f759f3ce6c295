"""Flows that are compiled from a shape: what is stored, and how two shapes differ."""

import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

NONE = {"defined": False}
LOCAL = "super-secret-jwt-token-with-at-least-32-characters-long"


def step(slug, *deps, **parts):
    """A step of a shape with all of its parts."""
    return {
        "slug": slug,
        "stepType": "single",
        "dependencies": list(deps),
        "whenUnmet": "skip",
        "whenExhausted": "fail",
        "requiredInputPattern": NONE,
        "forbiddenInputPattern": NONE,
        **parts,
    }


def shape(*steps):
    return {"steps": list(steps)}


FULL = shape(
    step("zeta"),
    step("alpha", requiredInputPattern={"defined": True, "value": {"x": None}}),
    step(
        "join",
        "alpha",
        "zeta",
        whenUnmet="skip-cascade",
        whenExhausted="skip",
        forbiddenInputPattern={"defined": True, "value": {"zeta": {}}},
    ),
    step("each", "join", stepType="map", whenUnmet="fail"),
)


def compiled(core, given, slug="f", loss=False):
    return core.value("select pgflow.ensure_flow_compiled(%s, %s, %s)", slug, Jsonb(given), loss)


def stored(core, slug="f"):
    return core.value("select pgflow._get_flow_shape(%s)", slug)


def differences(core, first, second):
    return core.value("select pgflow._compare_flow_shapes(%s, %s)", Jsonb(first), Jsonb(second))


def test_a_flow_that_is_compiled_has_its_shape_and_a_queue(core):
    assert compiled(core, FULL) == {"status": "compiled", "differences": []}
    assert stored(core) == FULL
    assert core.rows("select from pgmq.list_queues() where queue_name = 'f'")
    assert compiled(core, FULL) == {"status": "verified", "differences": []}


def test_a_flow_that_is_not_there_has_a_shape_without_steps(core):
    assert stored(core) == {"steps": []}
    assert compiled(core, shape()) == {"status": "compiled", "differences": []}
    assert compiled(core, shape()) == {"status": "verified", "differences": []}


def test_what_a_shape_leaves_out_is_the_default(core):
    short = shape({"slug": "a", "stepType": "single", "dependencies": []})
    compiled(core, short)
    assert stored(core) == shape(step("a"))
    assert compiled(core, short)["status"] == "verified"
    whole = core.row("select * from pgflow.flows")
    assert (whole.opt_max_attempts, whole.opt_base_delay, whole.opt_timeout) == (3, 5, 60)


def test_options_are_set_when_a_flow_is_made_and_are_no_part_of_its_shape(core):
    options = {"maxAttempts": 7, "baseDelay": 8, "timeout": 9}
    given = {
        "options": options,
        "steps": [
            step("a", options={"maxAttempts": None, "timeout": 4, "startDelay": 30}),
            step("b", options=None),
        ],
    }
    compiled(core, given)
    whole = core.row("select * from pgflow.flows")
    assert (whole.opt_max_attempts, whole.opt_base_delay, whole.opt_timeout) == (7, 8, 9)
    query = """
      select opt_max_attempts, opt_base_delay, opt_timeout, opt_start_delay
      from pgflow.steps order by step_index
    """
    assert list(map(tuple, core.rows(query))) == [(None, None, 4, 30), (None,) * 4]
    assert stored(core) == shape(step("a"), step("b"))
    assert compiled(core, given | {"options": {"timeout": 1}})["status"] == "verified"


def test_the_order_of_dependencies_makes_no_difference(core):
    first = shape(step("b"), step("a"), step("c", "b", "a"))
    compiled(core, first)
    assert stored(core)["steps"][2]["dependencies"] == ["a", "b"]
    assert compiled(core, first)["status"] == "verified"


def test_each_difference_is_a_line_in_the_order_of_the_steps(core):
    pattern = {"defined": True, "value": {"a": 1}}
    changed = shape(
        step("zeta"),
        step("beta", "zeta", requiredInputPattern=pattern),
        step(
            "join",
            "zeta",
            "alpha",
            stepType="map",
            whenUnmet="fail",
            whenExhausted="skip-cascade",
            forbiddenInputPattern=NONE,
        ),
    )
    assert differences(core, FULL, FULL) == []
    assert differences(core, changed, FULL) == [
        "Step count differs: 3 vs 4",
        "Step at index 1: slug differs 'beta' vs 'alpha'",
        "Step at index 1: dependencies differ [zeta] vs []",
        (
            "Step at index 1: requiredInputPattern differs"
            ' \'{"value": {"a": 1}, "defined": true}\''
            ' vs \'{"value": {"x": null}, "defined": true}\''
        ),
        "Step at index 2: type differs 'map' vs 'single'",
        "Step at index 2: whenUnmet differs 'fail' vs 'skip-cascade'",
        "Step at index 2: whenExhausted differs 'skip-cascade' vs 'skip'",
        (
            "Step at index 2: forbiddenInputPattern differs"
            ' \'{"defined": false}\' vs \'{"value": {"zeta": {}}, "defined": true}\''
        ),
        "Step at index 3: missing in first shape (second has 'each')",
    ]
    assert differences(core, FULL, shape(*FULL["steps"][:3])) == [
        "Step count differs: 4 vs 3",
        "Step at index 3: missing in second shape (first has 'each')",
    ]


def test_a_flow_of_another_shape_stays_with_its_runs(core):
    compiled(core, shape(step("a")))
    run = core.start()
    assert compiled(core, shape(step("b"))) == {
        "status": "mismatch",
        "differences": ["Step at index 0: slug differs 'b' vs 'a'"],
    }
    assert stored(core) == shape(step("a"))
    assert core.tasks(run) == {"a": "queued"}


@pytest.mark.parametrize("local", [False, True])
def test_where_data_may_be_lost_a_flow_of_another_shape_is_made_again(core, local):
    compiled(core, shape(step("a")), slug="other")
    compiled(core, shape(step("a")))
    core.start()
    if local:
        core.rows("select set_config('app.settings.jwt_secret', %s, true)", LOCAL)
    assert compiled(core, shape(step("b")), loss=not local) == {
        "status": "recompiled",
        "differences": ["Step at index 0: slug differs 'b' vs 'a'"],
    }
    assert core.rows("select from pgflow.runs") == []
    assert core.tasks(core.start()) == {"b": "queued"}
    assert stored(core, "other") == shape(step("a"))
    assert compiled(core, shape(step("b")), loss=True)["status"] == "verified"


def test_a_flow_in_capitals_is_compiled_with_its_queue(core):
    compiled(core, shape(step("a")), slug="Big")
    assert core.rows("select from pgmq.list_queues() where queue_name = 'Big'")
    assert compiled(core, shape(step("b")), slug="Big", loss=True)["status"] == "recompiled"
    core.start(slug="Big")
    assert core.queued("big") == [1]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({}, errors.InvalidParameterValue),
        ({"steps": None}, errors.InvalidParameterValue),
        (shape(step("a", "later")), errors.ForeignKeyViolation),
        (shape(step("a", stepType="other")), errors.CheckViolation),
        (shape(step("a", whenUnmet="perhaps")), errors.CheckViolation),
        (
            shape(step("a", requiredInputPattern={"defined": True, "value": 1})),
            errors.CheckViolation,
        ),
    ],
)
def test_a_shape_that_cannot_be_made_raises(core, wrong, error):
    with pytest.raises(error):
        compiled(core, wrong)


def test_two_sessions_compile_a_flow_one_after_the_other(core, connect_beside):
    core.rows("select pg_advisory_xact_lock(hashtextextended('pgflow.define_flow.f', 0))")
    other = connect_beside()
    other.execute("set lock_timeout = '1ms'")
    with pytest.raises(errors.LockNotAvailable):
        other.execute("select pgflow.ensure_flow_compiled('f', '{\"steps\": []}')")
