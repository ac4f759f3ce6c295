"""fail_task(): another attempt after a while, or the end of the run."""

from uuid import UUID

import pytest
from psycopg import errors


def delay(core, base, attempts):
    return core.value("select pgflow.calculate_retry_delay(%s::numeric, %s)", base, attempts)


def test_a_failed_attempt_is_queued_again_with_its_error(core):
    core.flow("a")
    run = core.start()
    core.poll()
    task = core.fail(run, "a", "boom")
    assert (task.status, task.error_message, task.attempts_count) == ("queued", "boom", 1)
    assert task == core.task(run, "a")
    assert core.run(run).status == "started"
    assert core.states(run) == {"a": "started"}
    assert core.archived() == []


def test_the_delays_of_a_base_of_five_seconds_are_ten_twenty_and_forty(core):
    core.flow("a", max_attempts=4, base_delay=5)
    run = core.start()
    for seconds in (10, 20, 40):
        core.lapse()
        (task,) = core.poll()
        core.fail(run, "a")
        assert core.hidden_for(task.msg_id) == pytest.approx(seconds, abs=0.5)
        assert core.poll() == []


def test_a_task_without_a_delay_is_visible_at_once(core):
    core.flow("a", base_delay=0)
    run = core.start()
    core.poll()
    core.fail(run, "a")
    assert [task.attempts_count for task in core.poll()] == [2]


def test_a_task_that_is_tried_again_goes_before_younger_ones(core):
    core.flow("a", base_delay=0)
    first, second = core.start_many(2)
    core.poll(1)
    core.fail(first, "a")
    assert [task.run_id for task in core.poll(1)] == [first]
    assert [task.run_id for task in core.poll(1)] == [second]


def test_a_steps_own_delay_and_attempts_go_before_its_flows(core):
    core.flow(max_attempts=1, base_delay=1)
    core.step("a", max_attempts=2, base_delay=50)
    run = core.start()
    (task,) = core.poll()
    assert core.fail(run, "a").status == "queued"
    assert core.hidden_for(task.msg_id) == pytest.approx(100, abs=0.5)
    core.lapse()
    core.poll()
    assert core.fail(run, "a").status == "failed"


def test_the_last_attempt_fails_task_step_and_run_and_archives_the_message(core):
    core.flow("a", max_attempts=2, base_delay=0)
    run = core.start()
    for error in ("first", "second"):
        core.poll()
        task = core.fail(run, "a", error)
    assert (task.status, task.error_message, task.attempts_count) == ("failed", "second", 2)
    assert core.states(run) == {"a": "failed"}
    assert (core.run(run).status, core.run(run).output) == ("failed", None)
    assert core.run(run).failed_at is not None
    assert (core.queued(), core.archived()) == ([], [task.message_id])


@pytest.mark.parametrize("attempts", [0, 1])
def test_a_task_may_have_only_one_attempt(core, attempts):
    core.flow("a", max_attempts=attempts)
    run = core.start()
    assert len(core.poll()) == 1
    assert core.fail(run, "a").status == "failed"


def test_a_task_may_be_failed_without_having_been_polled(core):
    core.flow("a", max_attempts=1)
    run = core.start()
    (message,) = core.queued()
    assert core.fail(run, "a").status == "queued"
    assert core.hidden_for(message) == pytest.approx(5, abs=0.5)


def test_a_failed_task_failed_again_stays_as_it_is(core):
    core.flow("a", max_attempts=1)
    run = core.start()
    core.poll()
    first = core.fail(run, "a", "first")
    assert core.fail(run, "a", "second") == first


def test_a_completed_task_cannot_be_failed(core):
    core.flow("a", "b<a")
    run = core.start()
    completed = core.complete(run, "a", 1)
    assert core.fail(run, "a") == completed
    assert core.run(run).status == "started"


def test_a_failure_needs_no_message(core):
    core.flow("a")
    run = core.start()
    assert core.row("select * from pgflow.fail_task(%s, 'a', 0, null)", run).error_message == ""


def test_a_long_error_message_is_cut(core):
    core.flow("a")
    run = core.start()
    assert core.fail(run, "a", "é" * 10_000).error_message == "é" * 8192


def test_a_task_that_is_not_there_cannot_be_failed(core):
    core.flow("a")
    with pytest.raises(errors.NoDataFound, match="unknown task"):
        core.fail(UUID(int=1), "a")


def test_a_task_completed_after_a_failed_attempt_keeps_the_error_of_that_attempt(core):
    core.flow("a", base_delay=0)
    run = core.start()
    core.poll()
    core.fail(run, "a", "boom")
    core.poll()
    task = core.complete(run, "a", 1)
    assert (task.status, task.error_message, task.attempts_count) == ("completed", "boom", 2)


@pytest.mark.parametrize(
    ("base", "attempts", "seconds"),
    [
        (5, 0, 5),
        (5, 1, 10),
        (5, 2, 20),
        (5, 3, 40),
        (0, 9, 0),
        (1, 10, 1024),
        (0.5, 1, 1),
        (0.3, 1, 0),
    ],
)
def test_a_delay_doubles_with_each_attempt(core, base, attempts, seconds):
    assert delay(core, base, attempts) == seconds


@pytest.mark.parametrize(
    ("base", "attempts"), [(1, 31), (1, 1000), (2**31 - 1, 1), (10**100, 10**9), (5, 2**31 - 1)]
)
def test_a_delay_stays_within_an_integer(core, base, attempts):
    assert delay(core, base, attempts) == 2**31 - 1


def test_a_retry_after_the_longest_delay_can_be_queued(core):
    core.flow("a", max_attempts=100, base_delay=2**31 - 1)
    run = core.start()
    (task,) = core.poll()
    assert core.fail(run, "a").status == "queued"
    assert core.hidden_for(task.msg_id) > 2**31 - 10
