"""poll_for_tasks(): what the seed's workers call."""

import time

import pytest
from psycopg import errors

FIELDS = ("flow_slug", "run_id", "step_slug", "input", "msg_id", "task_index", "attempts_count")


def test_a_polled_task_is_told_all_a_worker_needs(core):
    core.flow("a", timeout=9)
    run = core.start({"url": "x"})
    (task,) = core.poll()
    assert [getattr(task, field) for field in FIELDS] == [
        *("f", run, "a", {"run": {"url": "x"}}, core.queued()[0], 0, 1)
    ]
    assert (task.timeout, task.blobs_refs) == (9, {})


def test_polling_leaves_the_status_and_raises_the_attempts(core):
    core.flow("a")
    run = core.start()
    core.poll()
    assert (core.task(run, "a").status, core.task(run, "a").attempts_count) == ("queued", 1)
    core.lapse()
    core.poll()
    assert (core.task(run, "a").status, core.task(run, "a").attempts_count) == ("queued", 2)


def test_the_lowest_messages_are_taken_first(core):
    core.flow("a")
    core.start_many(5)
    lowest = core.queued()
    assert [task.msg_id for task in core.poll(2)] == lowest[:2]
    assert [task.msg_id for task in core.poll(2)] == lowest[2:4]
    assert [task.msg_id for task in core.poll(2)] == lowest[4:]
    assert core.poll(2) == []


def test_a_message_is_hidden_for_its_steps_timeout_and_two_seconds_whatever_vt_says(core):
    core.flow(timeout=30)
    core.step("own", timeout=20)
    core.step("inherited")
    core.start()
    for vt in (1, 1000):
        core.lapse()
        own, inherited = core.rows("select * from pgflow.poll_for_tasks('f', %s, 2, 0)", vt)
        assert core.hidden_for(own.msg_id) == pytest.approx(22, abs=0.5)
        assert core.hidden_for(inherited.msg_id) == pytest.approx(32, abs=0.5)
        assert (own.timeout, inherited.timeout) == (20, 30)


def test_a_timeout_may_be_as_large_as_an_integer(core):
    core.flow("a", timeout=2**31 - 1)
    core.start()
    (task,) = core.poll()
    assert core.hidden_for(task.msg_id) > 2**31 - 1


def test_a_task_sees_the_runs_input_and_the_outputs_of_its_direct_dependencies_only(core):
    core.flow("a", "b<a", "c<b", "d")
    run = core.start("in")
    core.complete(run, "a", "A")
    core.complete(run, "d", "D")
    assert [task.input for task in core.poll()] == [{"run": "in", "a": "A"}]
    core.complete(run, "b", "B")
    assert [task.input for task in core.poll()] == [{"run": "in", "b": "B"}]


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_a_task_that_is_no_longer_queued_is_not_polled_though_its_message_is_there(core, status):
    core.flow("a")
    run = core.start()
    core.db.execute("update pgflow.step_tasks set status = %s", [status])
    assert core.poll() == []
    assert core.task(run, "a").attempts_count == 0


def test_a_task_that_was_deleted_by_hand_is_not_polled(core):
    core.flow("a")
    gone, stays = core.start_many(2)
    core.db.execute("delete from pgflow.step_tasks where run_id = %s", [gone])
    assert [task.run_id for task in core.poll(qty=1)] == [stays]
    assert core.poll() == []


def test_messages_without_a_task_do_not_stand_in_the_way_of_others(core):
    core.flow("a")
    *gone, stays = core.start_many(30)
    core.db.execute("delete from pgflow.step_tasks where run_id = any(%s)", [gone])
    assert [task.run_id for task in core.poll(qty=5)] == [stays]
    assert core.poll() == []
    assert core.queued() == [core.task(stays, "a").message_id]


def test_only_the_flow_that_is_asked_for_is_polled(core):
    core.flow("a")
    core.flow("a", slug="g")
    core.start()
    other = core.start(slug="g")
    assert [(task.flow_slug, task.run_id) for task in core.poll(slug="g")] == [("g", other)]


def test_tasks_of_two_flows_with_equal_message_ids_are_told_apart(core):
    core.flow("a")
    core.flow("b", slug="g")
    run, other = core.start(1), core.start(2, slug="g")
    assert core.queued() == core.queued("g")
    (task,), (other_task,) = core.poll(), core.poll(slug="g")
    assert (task.run_id, task.step_slug, task.input) == (run, "a", {"run": 1})
    assert (other_task.run_id, other_task.step_slug, other_task.input) == (other, "b", {"run": 2})


def test_an_unknown_flow_is_refused(core):
    with pytest.raises(errors.NoDataFound, match='unknown flow "missing"'):
        core.poll(slug="missing")


@pytest.mark.parametrize("qty", [0, -1])
def test_no_tasks_are_taken_where_none_are_asked_for(core, qty):
    core.flow("a")
    core.start()
    assert core.poll(qty) == []
    assert len(core.poll()) == 1


def test_a_poll_that_finds_a_task_does_not_wait(core):
    core.flow("a")
    core.start()
    began = time.monotonic()
    assert len(core.rows("select * from pgflow.poll_for_tasks('f', 1, 10, 30)")) == 1
    assert time.monotonic() - began < 10
