"""A worker that dies gives no answer: its attempt counts, and the last one ends the run."""

import pytest


def die(core, slug="f"):
    """Claim, give no answer, and let the time of the attempt pass."""
    claim = core.claim(flows=(slug,))
    core.lapse(slug)
    return [task.attempts_count for task in claim.tasks]


def test_a_worker_that_dies_each_time_ends_in_a_failed_run(core):
    core.flow("a", max_attempts=3)
    run = core.start()
    assert [die(core) for _ in range(5)] == [[1], [2], [3], [], []]
    task = core.task(run, "a")
    assert (task.status, task.attempts_count) == ("failed", 3)
    assert task.error_message == "attempt 3 gave no answer within its 60 seconds"
    assert (core.run(run).status, core.states(run)) == ("failed", {"a": "failed"})
    assert (core.queued(), core.archived()) == ([], [task.message_id])


def test_a_seeds_worker_that_dies_each_time_ends_in_a_failed_run(core):
    core.flow("a", max_attempts=2)
    run = core.start()
    for _ in range(3):
        core.poll()
        core.lapse()
    assert core.run(run).status == "failed"


def test_a_steps_own_number_of_attempts_counts(core):
    core.flow(max_attempts=9)
    core.step("a", max_attempts=1)
    run = core.start()
    assert [die(core), die(core)] == [[1], []]
    assert core.run(run).status == "failed"


@pytest.mark.parametrize("attempts", [0, 1])
def test_a_task_with_one_attempt_is_attempted_once(core, attempts):
    core.flow("a", max_attempts=attempts)
    core.start()
    assert [die(core), die(core)] == [[1], []]


def test_the_siblings_of_a_lapsed_task_end_with_it(core):
    core.flow("b")
    core.step("a", max_attempts=1)
    run = core.start()
    die(core)
    core.claim()
    assert core.tasks(run) == {"a": "failed", "b": "cancelled"}
    assert core.queued() == []


def test_an_attempt_within_its_time_has_not_lapsed(core):
    core.flow("a", max_attempts=1)
    run = core.start()
    core.claim()
    assert core.value("select pgflow.fail_lapsed_tasks('{f}')") == 0
    assert core.run(run).status == "started"


def test_a_task_that_was_never_claimed_has_not_lapsed(core):
    core.flow("a", max_attempts=0)
    core.start()
    assert core.value("select pgflow.fail_lapsed_tasks('{f}')") == 0


def test_a_retry_whose_delay_is_over_has_not_lapsed(core):
    core.flow("a", max_attempts=2)
    run = core.start()
    core.claim()
    core.fail(run, "a")
    core.lapse()
    assert core.value("select pgflow.fail_lapsed_tasks('{f}')") == 0
    assert core.claim().tasks[0].attempts_count == 2


def test_lapsed_tasks_of_several_flows_fail_in_one_call(core):
    for slug in ("f", "g", "h"):
        core.flow("a", slug=slug, max_attempts=1)
        core.start_many(2, slug=slug)
        die(core, slug)
    assert core.value("select pgflow.fail_lapsed_tasks('{f,g}')") == 4
    failed = core.rows(
        "select flow_slug, count(*)::int from pgflow.runs where status = 'failed' group by 1"
    )
    assert dict(failed) == {"f": 2, "g": 2}


def test_new_tasks_are_claimed_though_lapsed_ones_stand_before_them(core):
    core.flow("a", max_attempts=1)
    core.start_many(150)
    core.claim(150)
    core.lapse()
    run = core.start()
    assert [task.run_id for task in core.claim(1).tasks] == [run]
    failed = core.value("select count(*) from pgflow.runs where status = 'failed'")
    assert failed == 150


def test_what_lapsed_is_due_at_once_for_those_who_only_completed(core):
    core.flow("a", max_attempts=1)
    core.start()
    die(core)
    claim = core.settle(qty=1)
    assert (claim.tasks, claim.next_due) == ([], 0)
    assert core.claim().next_due is None


def test_an_answer_that_comes_late_but_first_counts(core):
    core.flow("a", max_attempts=1)
    run = core.start()
    core.claim()
    core.lapse()
    core.complete(run, "a", "late")
    core.claim()
    assert (core.run(run).status, core.run(run).output) == ("completed", {"a": "late"})
