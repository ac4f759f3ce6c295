"""The faults of the seed's own SQL, none of which ours may have."""

import pytest
from psycopg import errors

from ...parts.models.core import Outcome


def test_two_active_flows_with_equal_message_ids_do_not_break_a_poll(core):
    core.flow("a")
    core.flow("b", slug="g")
    run, other = core.start(), core.start(slug="g")
    assert core.queued() == core.queued("g") == [1]
    assert [task.run_id for task in core.poll()] == [run]
    core.complete(run, "a")
    assert [task.run_id for task in core.poll(slug="g")] == [other]
    assert core.tasks(other) == {"b": "queued"}


def test_completing_twice_does_not_raise(core):
    core.flow("a")
    run = core.start()
    assert core.complete(run, "a", 1) == core.complete(run, "a", 2)
    assert core.run(run).output == {"a": 1}


def test_a_worker_that_dies_each_time_is_not_retried_for_ever(core):
    core.flow("a", max_attempts=3)
    run = core.start()
    for _ in range(4):
        core.poll()
        core.lapse()
    assert (core.run(run).status, core.task(run, "a").attempts_count) == ("failed", 3)
    assert core.queued() == []


def test_siblings_of_a_failed_run_do_not_keep_running(core):
    core.flow("a", "b", max_attempts=1)
    run = core.start()
    core.claim()
    core.fail(run, "a")
    assert core.settle(Outcome(run, "b")).refused == [1]
    core.lapse()
    assert core.poll() == []
    assert core.tasks(run) == {"a": "failed", "b": "cancelled"}


def test_a_flow_with_no_steps_completes(core):
    core.flow()
    assert core.run(core.start()).status == "completed"


def test_a_step_with_a_duplicate_dependency_starts(core):
    core.flow("a", "b<a,a")
    run = core.start()
    core.complete(run, "a")
    assert core.tasks(run)["b"] == "queued"


def test_slugs_that_differ_by_case_do_not_share_a_queue(core):
    core.flow(slug="Foo")
    with pytest.raises(errors.UniqueViolation):
        core.flow(slug="foo")


def test_a_slug_that_is_too_long_for_a_queue_is_not_accepted(core):
    with pytest.raises(errors.NameTooLong):
        core.flow(slug="f" * 48)
    core.db.rollback()
    assert core.rows("select from pgflow.flows") == []


def test_the_backoff_does_not_overflow(core):
    core.flow("a", max_attempts=1000)
    run = core.start()
    core.db.execute("update pgflow.step_tasks set attempts_count = 999")
    assert core.fail(run, "a").status == "queued"
    assert core.hidden_for(1) == pytest.approx(2**31 - 1, abs=1)


@pytest.mark.parametrize("output", [0, False, "", [], {}, None])
def test_a_falsy_output_stays_what_it_is(core, output):
    core.flow("a", "b<a")
    run = core.start()
    core.complete(run, "a", output)
    value = core.poll()[0].input["a"]
    assert (value, type(value)) == (output, type(output))
    core.complete(run, "b", output)
    value = core.run(run).output["b"]
    assert (value, type(value)) == (output, type(output))
