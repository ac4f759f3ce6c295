"""A claim raises the attempts of a task: task and attempt together are the lease."""

from ...parts.models.core import Outcome


def claimed_twice(core):
    """A task whose first worker was given up."""
    core.flow("a", "b<a", base_delay=0)
    run = core.start()
    core.claim()
    core.lapse()
    assert core.claim().tasks[0].attempts_count == 2
    return run


def test_a_completion_of_an_older_attempt_changes_nothing_and_is_refused(core):
    run = claimed_twice(core)
    before = core.task(run, "a")
    claim = core.settle(Outcome(run, "a", attempt=1, output="zombie"), qty=10)
    assert (claim.refused, claim.tasks) == ([1], [])
    assert core.task(run, "a") == before
    assert core.states(run) == {"a": "started", "b": "created"}


def test_a_failure_of_an_older_attempt_changes_nothing_and_is_refused(core):
    run = claimed_twice(core)
    before = core.task(run, "a")
    error = Outcome(run, "a", attempt=1, error="zombie", permanent=True)
    assert core.settle(error).refused == [1]
    assert core.task(run, "a") == before
    assert core.run(run).status == "started"


def test_the_latest_attempt_is_accepted(core):
    run = claimed_twice(core)
    assert core.settle(Outcome(run, "a", attempt=2, output=2)).refused is None
    assert core.task(run, "a").output == 2


def test_the_blob_of_an_older_attempt_is_deleted(core):
    run = claimed_twice(core)
    first, second = core.blob(run, "a"), core.blob(run, "a")
    outcomes = Outcome(run, "a", attempt=1, blob=first), Outcome(run, "a", attempt=2, blob=second)
    assert core.settle(*outcomes).refused == [1]
    assert core.blobs() == {second}
    assert core.task(run, "a").output_blob_id == second


def test_the_same_attempt_completed_twice_is_accepted_twice(core):
    core.flow("a", "b<a")
    run = core.start()
    core.claim()
    outcome = Outcome(run, "a", output=1)
    core.settle(outcome)
    claim = core.settle(outcome, qty=10)
    assert claim.refused == []
    assert claim.steps == ["b"]
    assert core.run(run).remaining_steps == 1


def test_the_same_attempt_completed_twice_keeps_its_blob(core):
    core.flow("a")
    run = core.start()
    core.claim()
    blob = core.blob(run, "a")
    for _ in range(2):
        core.settle(Outcome(run, "a", blob=blob))
    assert core.blobs() == {blob}
    assert core.task(run, "a").output_blob_id == blob


def test_the_same_attempt_completed_twice_is_accepted_even_after_its_run_has_ended(core):
    core.flow("a")
    run = core.start()
    core.claim()
    core.settle(Outcome(run, "a"))
    assert core.run(run).status == "completed"
    claim = core.settle(Outcome(run, "a"))
    assert (claim.refused, claim.owed_runs) == ([], [])


def test_another_blob_for_what_is_completed_already_is_deleted(core):
    core.flow("a")
    run = core.start()
    core.claim()
    first = core.blob(run, "a")
    core.settle(Outcome(run, "a", blob=first))
    core.settle(Outcome(run, "a", blob=core.blob(run, "a")))
    assert core.blobs() == {first}


def test_the_same_attempt_failed_twice_is_one_attempt(core):
    core.flow("a", max_attempts=2, base_delay=0)
    run = core.start()
    core.claim()
    for _ in range(2):
        core.settle(Outcome(run, "a", error="boom"))
    task = core.task(run, "a")
    assert (task.status, task.attempts_count) == ("queued", 1)


def test_a_task_of_a_failed_run_is_refused_and_its_blob_deleted(core):
    core.flow("a", "b", max_attempts=1)
    run = core.start()
    core.claim()
    core.settle(Outcome(run, "a", error="boom"))
    claim = core.settle(Outcome(run, "b", blob=core.blob(run, "b")))
    assert claim.refused == [1]
    assert core.blobs() == set()
    assert core.tasks(run) == {"a": "failed", "b": "cancelled"}


def test_a_task_that_nobody_claimed_has_no_first_attempt_to_complete(core):
    core.flow("a")
    run = core.start()
    assert core.settle(Outcome(run, "a", attempt=1)).refused == [1]
    assert core.settle(Outcome(run, "a", attempt=0)).refused is None


def test_the_seeds_call_names_no_attempt_and_completes_whichever_it_is(core):
    run = claimed_twice(core)
    assert core.complete(run, "a", 1).status == "completed"
    assert core.settle(Outcome(run, "a", attempt=1)).refused == [1]


def test_a_late_blob_leaves_a_run_that_has_completed_as_it_is(core):
    core.flow("a", base_delay=0)
    run = core.start()
    core.claim()
    core.lapse()
    core.claim()
    core.settle(Outcome(run, "a", attempt=2, output=2))
    before = core.run(run)
    assert (before.status, before.output) == ("completed", {"a": 2})
    late = Outcome(run, "a", attempt=1, blob=core.blob(run, "a"))
    assert core.settle(late).refused == [1]
    assert core.run(run) == before
    assert core.blobs() == set()


def test_a_late_blob_leaves_a_run_that_has_failed_as_it_is(core):
    core.flow("a", "b", base_delay=0)
    run = core.start()
    core.claim()
    core.settle(Outcome(run, "a", error="boom", permanent=True))
    before = core.run(run)
    assert core.settle(Outcome(run, "b", blob=core.blob(run, "b"))).refused == [1]
    assert core.run(run) == before
