"""What becomes of the rest of a run that failed."""

from ...parts.models.core import Outcome


def failed_run(core):
    """Fail b for good while c runs, d waits for a worker and e for b."""
    core.flow("a", "c<a", "d<a")
    core.step("b", max_attempts=1)
    core.step("e<b")
    run, other = core.start_many(2)
    core.claim()
    core.settle(Outcome(run, "a"), qty=1)
    claim = core.settle(Outcome(run, "b", error="boom"))
    assert claim.owed_runs == ["f"]
    return run, other


def test_siblings_of_a_failed_task_are_cancelled_whether_they_run_or_wait(core):
    run, _ = failed_run(core)
    assert core.tasks(run) == {"a": "completed", "b": "failed", "c": "cancelled", "d": "cancelled"}


def test_steps_of_a_failed_run_are_cancelled_if_they_had_begun(core):
    run, _ = failed_run(core)
    assert core.states(run) == {
        "a": "completed",
        "b": "failed",
        "c": "cancelled",
        "d": "cancelled",
        "e": "created",
    }


def test_no_message_of_a_failed_run_stays_in_the_queue(core):
    run, other = failed_run(core)
    left = core.rows("select message ->> 'run_id' from pgmq.q_f")
    assert {row[0] for row in left} == {str(other)}
    archived = core.value("select count(*) from pgmq.a_f where message ->> 'run_id' = %s", str(run))
    assert archived == 4


def test_nothing_of_a_failed_run_is_claimed_again(core):
    _, other = failed_run(core)
    core.db.execute("update pgflow.steps set opt_max_attempts = 9")
    core.lapse()
    assert {task.run_id for task in core.claim().tasks} == {other}
    assert core.poll() == []


def test_a_failed_run_has_no_output_and_the_time_of_its_failure(core):
    run, _ = failed_run(core)
    ended = core.run(run)
    assert (ended.status, ended.output, ended.completed_at) == ("failed", None, None)
    assert ended.failed_at >= ended.started_at


def test_a_step_whose_dependency_comes_late_does_not_start_in_a_failed_run(core):
    core.flow("a", "b<a")
    core.step("c", max_attempts=1)
    run = core.start()
    core.claim()
    core.settle(Outcome(run, "c", error="boom"))
    assert core.settle(Outcome(run, "a"), qty=10).refused == [1]
    core.rows("select pgflow.start_ready_steps(%s)", run)
    assert core.states(run)["b"] == "created"
    assert core.queued() == []


def test_other_runs_of_the_flow_go_on(core):
    _, other = failed_run(core)
    for step in "abcde":
        core.complete(other, step)
    assert core.run(other).status == "completed"
