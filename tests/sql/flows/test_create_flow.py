"""create_flow(): a flow and its queue."""

import pytest
from psycopg import errors


def create(core, arguments):
    return core.row(f"select * from pgflow.create_flow({arguments})")


def options(flow):
    return flow.opt_max_attempts, flow.opt_base_delay, flow.opt_timeout


def test_a_new_flow_has_the_functions_defaults(core):
    flow = create(core, "'f'")
    assert flow.flow_slug == "f"
    assert options(flow) == (3, 5, 60)


def test_a_flow_has_the_options_it_is_given_by_position(core):
    assert options(create(core, "'f', 4, 6, 70")) == (4, 6, 70)


def test_an_option_that_is_null_is_the_functions_default(core):
    assert options(create(core, "'f', null, null, null")) == (3, 5, 60)


def test_options_may_be_zero_where_zero_means_something(core):
    assert options(create(core, "'f', 0, 0, 1")) == (0, 0, 1)


@pytest.mark.parametrize("option", ["max_attempts => -1", "base_delay => -1", "timeout => 0"])
def test_an_option_without_meaning_is_refused(core, option):
    with pytest.raises(errors.CheckViolation):
        create(core, f"'f', {option}")


def test_a_flow_has_a_queue_of_its_name(core):
    create(core, "'f'")
    assert core.value("select queue_name from pgmq.meta") == "f"
    assert core.queued() == core.archived() == []


def test_creating_a_flow_again_returns_what_is_stored_and_changes_nothing(core):
    first = create(core, "'f', 4, 6, 70")
    assert create(core, "'f', 9, 9, 9") == first
    assert create(core, "'f'") == first
    assert core.row("select * from pgflow.flows") == first


def test_creating_a_flow_again_keeps_its_messages(core):
    core.flow("a")
    core.start()
    create(core, "'f'")
    assert len(core.queued()) == 1


def test_a_flow_whose_slug_differs_only_by_case_is_refused(core):
    create(core, "'Foo'")
    with pytest.raises(errors.UniqueViolation, match='"foo" differs only by case from "Foo"'):
        create(core, "'foo'")


def test_a_flow_whose_slug_has_capitals_works(core):
    core.flow("A", slug="AnalyzeSite")
    run = core.start(slug="AnalyzeSite")
    (task,) = core.poll(slug="AnalyzeSite")
    assert task.flow_slug == "AnalyzeSite"
    core.complete(run, "A", 1)
    assert core.run(run).status == "completed"


def test_a_slug_may_be_as_long_as_a_queue_name(core):
    slug = "f" * 47
    core.flow("a", slug=slug)
    run = core.start(slug=slug)
    assert [task.run_id for task in core.poll(slug=slug)] == [run]


def test_a_slug_longer_than_a_queue_name_is_refused_by_a_message_that_says_so(core):
    with pytest.raises(errors.NameTooLong, match=r"has 48 characters.* at most 47"):
        core.flow(slug="f" * 48)


def test_a_flow_without_a_slug_is_refused(core):
    with pytest.raises(errors.NotNullViolation):
        create(core, "null")
