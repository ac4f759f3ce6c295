"""add_step(): the steps of a flow, and which step waits for which."""

import pytest
from psycopg import errors


def add(core, arguments):
    return core.row(f"select * from pgflow.add_step({arguments})")


def deps(core):
    query = "select dep_slug || '>' || step_slug from pgflow.deps order by 1"
    return [row[0] for row in core.rows(query)]


def test_a_step_without_options_inherits_them_as_nulls(core):
    core.flow()
    step = add(core, "'f', 'a'")
    assert (step.flow_slug, step.step_slug, step.step_type) == ("f", "a", "single")
    assert (step.opt_max_attempts, step.opt_base_delay, step.opt_timeout) == (None, None, None)
    assert step.deps_count == 0


def test_a_step_has_the_options_it_is_given_by_position(core):
    core.flow()
    step = add(core, "'f', 'a', '{}', 4, 6, 70")
    assert (step.opt_max_attempts, step.opt_base_delay, step.opt_timeout) == (4, 6, 70)


def test_a_step_records_what_it_waits_for_and_how_many(core):
    core.flow("a", "b")
    assert add(core, "'f', 'c', array['b', 'a']").deps_count == 2
    assert deps(core) == ["a>c", "b>c"]


def test_a_dependency_that_is_named_twice_counts_once(core):
    core.flow("a")
    assert add(core, "'f', 'b', array['a', 'a']").deps_count == 1
    assert deps(core) == ["a>b"]


def test_dependencies_may_be_null(core):
    core.flow()
    assert add(core, "'f', 'a', null").deps_count == 0


def test_adding_a_step_again_returns_what_is_stored_and_changes_nothing(core):
    core.flow("a", "b<a")
    first = core.row("select * from pgflow.steps where step_slug = 'b'")
    assert add(core, "'f', 'b', '{}', 9, 9, 9") == first
    assert add(core, "'f', 'b'") == first
    assert core.row("select * from pgflow.steps where step_slug = 'b'") == first
    assert deps(core) == ["a>b"]


def test_a_whole_definition_can_be_repeated(core):
    definition = ("a", "b<a", "c<a", "d<b,c")
    core.flow(*definition)
    stored = core.rows("select * from pgflow.steps order by step_index")
    core.flow(*definition)
    assert core.rows("select * from pgflow.steps order by step_index") == stored
    assert [step.step_slug for step in stored] == ["a", "b", "c", "d"]


def test_a_step_cannot_wait_for_itself(core):
    core.flow()
    with pytest.raises(errors.CheckViolation, match='"deps_check"'):
        add(core, "'f', 'a', array['a']")


def test_a_step_cannot_wait_for_what_is_not_there(core):
    core.flow("a")
    with pytest.raises(errors.ForeignKeyViolation, match='"deps_flow_slug_dep_slug_fkey"'):
        add(core, "'f', 'b', array['a', 'missing']")


def test_a_step_cannot_wait_for_a_step_of_another_flow(core):
    core.flow("a")
    core.flow(slug="other")
    with pytest.raises(errors.ForeignKeyViolation, match='"deps_flow_slug_dep_slug_fkey"'):
        add(core, "'other', 'b', array['a']")


def test_a_step_needs_its_flow(core):
    with pytest.raises(errors.ForeignKeyViolation, match='"steps_flow_slug_fkey"'):
        add(core, "'missing', 'a'")


def test_two_flows_may_have_steps_of_the_same_slug(core):
    core.flow("a", "b<a")
    core.flow("b", "a<b", slug="other")
    assert deps(core) == ["a>b", "b>a"]


@pytest.mark.parametrize(
    "option",
    [
        "max_attempts => -1",
        "base_delay => -1",
        "timeout => 0",
        "start_delay => -1",
        "tolerate => 2",
        "step_type => 'double'",
        "when_unmet => 'x'",
        "when_exhausted => 'x'",
        "required_input_pattern => '[]'",
        "forbidden_input_pattern => '1'",
    ],
)
def test_an_option_without_meaning_is_refused(core, option):
    core.flow()
    with pytest.raises(errors.CheckViolation):
        add(core, f"'f', 'a', {option}")


RULES = "'map', '{\"a\": 1}', '{\"a\": {\"b\": 2}}', 'skip-cascade', 'skip', 0.5"  # after the delay


def test_a_step_has_the_rules_it_is_given_by_position(core):
    core.flow("a")
    step = add(core, f"'f', 'b', array['a'], 4, 6, 70, 30, {RULES}")
    assert (step.opt_start_delay, step.step_type, step.opt_tolerate) == (30, "map", 0.5)
    assert (step.required_input_pattern, step.forbidden_input_pattern) == (
        {"a": 1},
        {"a": {"b": 2}},
    )
    assert (step.when_unmet, step.when_exhausted) == ("skip-cascade", "skip")


def test_a_rule_that_is_null_is_the_usual_one(core):
    core.flow()
    step = add(core, "'f', 'a', null, null, null, null, null, null, null, null, null, null")
    assert (step.step_type, step.when_unmet, step.when_exhausted) == ("single", "skip", "fail")
    assert step.is_plain


def test_a_step_after_one_that_is_not_plain_is_not_plain(core):
    core.flow("a")
    assert not add(core, "'f', 'b', array['a'], start_delay => 1").is_plain
    assert not add(core, "'f', 'c', array['a', 'b']").is_plain
    assert add(core, "'f', 'd', array['a'], when_unmet => 'fail'").is_plain


def test_a_map_goes_over_one_list(core):
    core.flow("a", "b")
    assert add(core, "'f', 'c', array['a', 'a'], step_type => 'map'").deps_count == 1
    assert add(core, "'f', 'd', step_type => 'map'").deps_count == 0
    with pytest.raises(errors.RaiseException) as caught:
        add(core, "'f', 'e', array['b', 'a'], step_type => 'map'")
    assert caught.value.diag.message_primary == (
        'Map step "e" can have at most one dependency, but 2 were provided: b, a'
    )
