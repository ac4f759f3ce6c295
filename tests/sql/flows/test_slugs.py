"""Which names flows and steps may have."""

import pytest
from psycopg import errors

GOOD = ["a", "_", "Run", "run_", "a1", "_1", "snake_case", "camelCase", "x" * 128]
BAD = [None, "", "run", "1a", "a-b", "a b", "a.b", "ä", "a\n", " a", "a$", "x" * 129]


@pytest.mark.parametrize("slug", GOOD)
def test_a_slug_is_valid(core, slug):
    assert core.value("select pgflow.is_valid_slug(%s::text)", slug) is True


@pytest.mark.parametrize("slug", BAD)
def test_a_slug_is_not_valid(core, slug):
    assert core.value("select pgflow.is_valid_slug(%s::text)", slug) is False


def test_a_flow_with_an_invalid_slug_is_refused_by_the_constraint_slug_is_valid(core):
    with pytest.raises(errors.CheckViolation, match='"slug_is_valid"'):
        core.flow(slug="not-valid")


def test_a_step_with_an_invalid_slug_is_refused_by_the_constraint_steps_step_slug_check(core):
    core.flow()
    with pytest.raises(errors.CheckViolation, match='"steps_step_slug_check"'):
        core.step("1st")


def test_a_step_cannot_be_named_run(core):
    core.flow()
    with pytest.raises(errors.CheckViolation, match='"steps_step_slug_check"'):
        core.step("run")


def test_a_step_slug_may_have_128_characters(core):
    step = "s" * 128
    core.flow(step)
    run = core.start()
    assert core.poll()[0].step_slug == step
    core.complete(run, step, 1)
    assert core.run(run).output == {step: 1}
