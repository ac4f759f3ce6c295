"""A worker that leaves gives back its tasks, as if it had never claimed them."""

from uuid import UUID

from ...parts.models.core import WORKER, Core, Outcome

OTHER = UUID(int=8)


def release(core: Core, *tasks, worker: UUID = WORKER) -> int:
    return core.value(
        "select pgflow.release_tasks(%s, %s, %s, %s, %s)",
        [task.run_id for task in tasks],
        [task.step_slug for task in tasks],
        [task.task_index for task in tasks],
        [task.attempts_count for task in tasks],
        worker,
    )


def test_a_released_task_can_be_claimed_at_once_and_has_the_same_attempt(core):
    core.flow("a", "b<a", max_attempts=1)
    run = core.start()
    (task,) = core.claim().tasks
    assert release(core, task) == 1
    row = core.task(run, "a")
    assert (row.status, row.attempts_count, row.started_at, row.worker_id) == (
        "queued", 0, None, None,
    )  # fmt: skip
    claim = core.claim()
    assert [task.attempts_count for task in claim.tasks] == [1]
    assert not claim.lapsed
    assert core.settle(Outcome(run, "a"), qty=1).steps == ["b"]


def test_the_tasks_of_many_runs_and_flows_are_released_together(core):
    core.flow("a", "b")
    core.flow("c", slug="g")
    core.start_many(3)
    core.start_many(2, slug="g")
    tasks = core.claim(flows=("f", "g")).tasks
    assert release(core, *tasks) == 8
    assert sorted(core.claim(flows=("f", "g")).steps) == sorted(task.step_slug for task in tasks)


def test_a_task_that_was_not_named_stays_claimed(core):
    core.flow("a", "b")
    core.start()
    first, second = core.claim().tasks
    assert release(core, first) == 1
    assert core.claim().steps == [first.step_slug]
    assert core.hidden_for(second.msg_id) > 50


def test_an_older_attempt_releases_nothing(core):
    core.flow("a")
    run = core.start()
    (first,) = core.claim().tasks
    core.lapse()
    (second,) = core.claim().tasks
    before = core.task(run, "a")
    assert release(core, first) == 0
    assert core.task(run, "a") == before
    assert core.hidden_for(second.msg_id) > 50


def test_said_again_it_does_not_take_the_task_from_another_worker(core):
    core.flow("a")
    run = core.start()
    (task,) = core.claim().tasks
    assert release(core, task) == 1
    core.rows("select from pgflow.claim_tasks(array['f'], 1, %s, null)", OTHER)
    before = core.task(run, "a")
    assert (before.attempts_count, before.worker_id) == (1, OTHER)
    assert release(core, task) == 0
    assert core.task(run, "a") == before


def test_a_task_that_is_settled_is_not_released(core):
    core.flow("a", "b", "c", max_attempts=1)
    run = core.start()
    tasks = core.claim().tasks
    core.settle(Outcome(run, "a"))
    core.settle(Outcome(run, "b", error="boom"))
    before = [core.task(run, step) for step in "abc"]
    assert [row.status for row in before] == ["completed", "failed", "cancelled"]
    assert release(core, *tasks) == 0
    assert [core.task(run, step) for step in "abc"] == before


def test_a_task_that_waits_for_its_next_attempt_goes_on_waiting(core):
    core.flow("a", base_delay=100)
    run = core.start()
    (task,) = core.claim().tasks
    core.settle(Outcome(run, "a", error="boom"))
    assert release(core, task) == 0
    assert core.hidden_for(task.msg_id) > 50


def test_the_error_of_an_earlier_attempt_is_kept(core):
    core.flow("a", base_delay=0)
    run = core.start()
    core.claim()
    core.settle(Outcome(run, "a", error="boom"))
    core.lapse()
    assert release(core, *core.claim().tasks) == 1
    row = core.task(run, "a")
    assert (row.attempts_count, row.error_message) == (1, "boom")


def test_a_blob_that_the_attempt_had_begun_to_write_is_deleted(core):
    core.flow("a")
    run = core.start()
    (task,) = core.claim().tasks
    blob = core.open(run, "a")
    assert blob
    assert core.write(blob, 0)
    assert release(core, task) == 1
    assert core.blobs() == set()
    assert core.chunks() == []


def test_nothing_to_release_is_no_error(core):
    core.flow("a")
    assert release(core) == 0
