"""complete_task(): a task is done, and what waited for it may begin."""

from uuid import UUID

import pytest
from psycopg import errors

FALSY = [0, False, "", [], {}, None]


def test_a_completed_task_is_returned_with_its_output(core):
    core.flow("a")
    run = core.start()
    core.poll()
    task = core.complete(run, "a", {"x": 1})
    assert (task.run_id, task.step_slug, task.status) == (run, "a", "completed")
    assert (task.output, task.attempts_count, task.error_message) == ({"x": 1}, 1, None)
    assert task == core.task(run, "a")


def test_a_task_may_be_completed_without_having_been_polled(core):
    core.flow("a", "b<a")
    run = core.start()
    assert core.complete(run, "a", 1).attempts_count == 0
    assert core.tasks(run) == {"a": "completed", "b": "queued"}


def test_the_message_of_a_completed_task_moves_to_the_archive(core):
    core.flow("a", "b")
    run = core.start()
    first, second = core.queued()
    core.complete(run, "a")
    assert (core.queued(), core.archived()) == ([second], [first])


def test_a_completed_task_completes_its_step_and_starts_what_waited_for_it(core):
    core.flow("a", "b<a", "c<a", "d")
    run = core.start()
    core.complete(run, "a")
    assert core.states(run) == {"a": "completed", "b": "started", "c": "started", "d": "started"}
    assert core.tasks(run) == {"a": "completed", "b": "queued", "c": "queued", "d": "queued"}
    assert (core.run(run).status, core.run(run).remaining_steps) == ("started", 3)


def test_a_step_starts_when_the_last_of_its_dependencies_is_completed(core):
    core.flow("a", "b", "c<a,b")
    run = core.start()
    core.complete(run, "b")
    waiting = core.row("select * from pgflow.step_states where step_slug = 'c'")
    assert (waiting.status, waiting.remaining_deps) == ("created", 1)
    assert "c" not in core.tasks(run)
    core.complete(run, "a")
    started = core.row("select * from pgflow.step_states where step_slug = 'c'")
    assert (started.status, started.remaining_deps) == ("started", 0)
    assert core.tasks(run)["c"] == "queued"


def test_steps_that_become_ready_together_are_queued_in_the_order_of_their_definition(core):
    core.flow("a", "zeta<a", "alpha<a")
    run = core.start()
    core.complete(run, "a")
    assert [task.step_slug for task in core.poll()] == ["zeta", "alpha"]


def test_a_diamond_runs_to_its_end(core):
    core.flow("a", "b<a", "c<a", "d<b,c")
    run = core.start("in")
    core.complete(run, "a", "A")
    core.complete(run, "c", "C")
    core.complete(run, "b", "B")
    assert [task.input for task in core.poll()] == [{"run": "in", "b": "B", "c": "C"}]
    core.complete(run, "d", "D")
    ended = core.run(run)
    assert (ended.status, ended.output, ended.remaining_steps) == ("completed", {"d": "D"}, 0)
    assert ended.completed_at > ended.started_at
    assert core.queued() == []


def test_a_run_ends_with_the_outputs_of_its_leaf_steps_by_their_slugs(core):
    core.flow("a", "b<a", "c<a", "d", "e<b")
    run = core.start()
    for step in "abcde":
        core.complete(run, step, step.upper())
    assert core.run(run).output == {"c": "C", "d": "D", "e": "E"}


def test_a_run_is_not_completed_before_its_last_step(core):
    core.flow("a", "b")
    run = core.start()
    core.complete(run, "a")
    assert (core.run(run).status, core.run(run).output) == ("started", None)


@pytest.mark.parametrize("output", FALSY)
def test_an_output_that_is_empty_is_kept_as_it_is(core, output):
    core.flow("a", "b<a", "c")
    run = core.start()
    assert core.complete(run, "a", output).output == output
    core.complete(run, "c", output)
    (task,) = core.poll()
    assert task.input == {"run": None, "a": output}
    core.complete(run, "b", output)
    assert core.run(run).output == {"b": output, "c": output}
    kind = "select jsonb_typeof(output) from pgflow.step_tasks where step_slug = 'a'"
    assert core.value(kind) == core.value("select jsonb_typeof(output -> 'b') from pgflow.runs")


def test_an_output_of_null_completes_a_task_and_reads_as_null(core):
    core.flow("a", "b<a")
    run = core.start()
    assert (
        core.row("select * from pgflow.complete_task(%s, 'a', 0, null)", run).status == "completed"
    )
    assert core.poll()[0].input == {"run": None, "a": None}


def test_a_task_completed_twice_keeps_its_first_output(core):
    core.flow("a", "b<a")
    run = core.start()
    first = core.complete(run, "a", "first")
    assert core.complete(run, "a", "second") == first
    assert core.run(run).remaining_steps == 1
    assert len(core.poll()) == 1


def test_a_task_that_failed_stays_failed(core):
    core.flow("a", max_attempts=0)
    run = core.start()
    failed = core.fail(run, "a")
    assert core.complete(run, "a", 1) == failed
    assert core.run(run).status == "failed"


def test_a_task_that_is_not_there_cannot_be_completed(core):
    core.flow("a", "b<a")
    run = core.start()
    with pytest.raises(errors.NoDataFound, match=r'unknown task: run .* step "b", index 0'):
        core.complete(run, "b")


def test_a_run_that_is_not_there_has_no_tasks(core):
    with pytest.raises(errors.NoDataFound, match="unknown task"):
        core.complete(UUID(int=1), "a")


def test_a_step_that_is_added_later_does_not_touch_the_runs_under_way(core):
    core.flow("a")
    run = core.start()
    core.step("b<a")
    core.complete(run, "a", "A")
    assert (core.run(run).status, core.run(run).output) == ("completed", {"a": "A"})


def test_start_ready_steps_starts_nothing_twice(core):
    core.flow("a", "b<a")
    run = core.start()
    for _ in range(2):
        core.rows("select pgflow.start_ready_steps(%s)", run)
    assert core.tasks(run) == {"a": "queued"}
    assert len(core.queued()) == 1


def test_start_ready_steps_starts_what_became_ready_by_hand(core):
    core.flow("a", "b<a")
    run = core.start()
    core.db.execute("update pgflow.step_states set remaining_deps = 0 where step_slug = 'b'")
    core.rows("select pgflow.start_ready_steps(%s)", run)
    assert core.tasks(run) == {"a": "queued", "b": "queued"}


def test_maybe_complete_run_completes_only_a_run_without_steps_to_go(core):
    core.flow("a")
    run = core.start()
    core.rows("select pgflow.maybe_complete_run(%s)", run)
    assert core.run(run).status == "started"
    core.db.execute("update pgflow.runs set remaining_steps = 0")
    core.rows("select pgflow.maybe_complete_run(%s)", run)
    assert core.run(run).status == "completed"
