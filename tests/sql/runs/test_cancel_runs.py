"""cancel_runs(): runs in each state, and what becomes of what they have."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from ...parts.models.core import Core, Outcome

CANCEL = "select * from pgflow.cancel_runs(%s, %s)"
LEFT = """
select
  (select count(*) from pgflow.step_tasks where status in ('queued', 'started'))
  + (select count(*) from pgflow.step_states where status in ('created', 'started'))
  + (select count(*) from pgflow.output_blobs where sha256 is null)
"""
STOPPED = """
select place, why from pgflow.stopped_tasks(
  array[%s]::uuid[], array['fetch'], array[0], array[%s], %s
)
"""


def cancel(core: Core, *run_ids: UUID, reason: str | None = None) -> list[UUID]:
    return [row.run_id for row in core.rows(CANCEL, list(run_ids), reason)]


@pytest.fixture
def flow(core: Core) -> Core:
    core.flow("fetch", "parse<fetch", base_delay=60)
    return core


def waiting(core: Core, run_id: UUID) -> None:
    """No worker has had it."""


def delayed(core: Core, run_id: UUID) -> None:
    core.rows("update pgmq.q_f set vt = clock_timestamp() + interval '1 day' returning 1")


def running(core: Core, run_id: UUID) -> None:
    core.claim()


def writing(core: Core, run_id: UUID) -> None:
    core.claim()
    core.write(core.open(run_id, "fetch"), 0)


def retrying(core: Core, run_id: UUID) -> None:
    core.poll()
    core.fail(run_id, "fetch")


def half_done(core: Core, run_id: UUID) -> None:
    core.poll()
    core.complete(run_id, "fetch", 1)


def claimed_for_pgflow(core: Core, run_id: UUID) -> None:
    core.start_tasks(core.queued())


STATES = [waiting, delayed, running, writing, retrying, half_done, claimed_for_pgflow]


@pytest.mark.parametrize("state", STATES)
def test_nothing_of_a_cancelled_run_is_left_whatever_its_state(
    flow: Core, state: Callable[[Core, UUID], None]
) -> None:
    run_id = flow.start()
    state(flow, run_id)
    assert cancel(flow, run_id, reason="enough") == [run_id]
    run = flow.run(run_id)
    assert (run.status, run.cancel_reason) == ("cancelled", "enough")
    assert run.cancelled_at is not None
    assert flow.value(LEFT) == 0
    assert flow.queued() == []
    assert flow.poll() == []
    assert set(flow.states(run_id).values()) <= {"cancelled", "completed"}


def test_what_is_done_stays_and_what_comes_late_is_refused(flow: Core) -> None:
    run_id = flow.start()
    flow.poll()
    flow.complete(run_id, "fetch", {"a": 1})
    claim = flow.claim()
    cancel(flow, run_id)
    assert flow.task(run_id, "fetch").output == {"a": 1}
    late = flow.settle(*[Outcome(t.run_id, t.step_slug) for t in claim.tasks])
    assert late.refused == [1]
    assert flow.complete(run_id, "parse", 2).status == "cancelled"
    assert flow.run(run_id).status == "cancelled"


def test_a_run_that_has_ended_stays_as_it_is_and_unknown_ids_are_passed_over(flow: Core) -> None:
    completed, failed, other = flow.start_many(3)
    flow.poll()
    for slug in ("fetch", "parse"):
        flow.complete(completed, slug)
        flow.poll()
    flow.rows("update pgflow.flows set opt_max_attempts = 1 returning 1")
    flow.fail(failed, "fetch")
    before = [flow.run(run_id) for run_id in (completed, failed)]
    assert [run.status for run in before] == ["completed", "failed"]
    assert cancel(flow, completed, uuid4(), failed, other, other) == [other]
    assert [flow.run(run_id) for run_id in (completed, failed)] == before
    once = flow.run(other)
    assert cancel(flow, other, reason="again") == []
    assert flow.run(other) == once
    assert cancel(flow) == []


def test_a_map_in_the_middle_of_its_windows_is_cancelled_as_a_whole(core: Core) -> None:
    core.flow()
    core.rows("select pgflow.add_step('f', 'page', step_type => 'map')")
    core.step("index<page")
    run_id = core.start(list(range(1500)))
    first = core.poll(600)
    query = "select * from pgflow.complete_task(%s, 'page', %s, %s)"
    for task in first[:520]:
        core.row(query, run_id, task.task_index, Jsonb(0))
    assert len(core.queued()) == 980
    assert cancel(core, run_id) == [run_id]
    assert core.queued() == []
    assert core.value(LEFT) == 0
    tasks = "select status, count(*) as n from pgflow.step_tasks group by 1 order by 1"
    assert [tuple(row) for row in core.rows(tasks)] == [("cancelled", 980), ("completed", 520)]


def test_a_long_reason_is_cut(flow: Core) -> None:
    run_id = flow.start()
    cancel(flow, run_id, reason="ä" * 2000)
    assert flow.run(run_id).cancel_reason == "ä" * 1000


def test_the_worker_learns_which_attempts_are_its_own_no_more(flow: Core) -> None:
    def why(run_id: UUID, attempt: int = 1) -> Any:
        found = flow.rows(STOPPED, run_id, attempt, worker)
        return found and found[0].why

    run_id = flow.start()
    flow.claim()
    worker = flow.task(run_id, "fetch").worker_id
    assert not why(run_id)
    assert why(run_id, 2) == "lease lost"
    assert why(uuid4()) == "run deleted"
    cancel(flow, run_id)
    assert why(run_id) == "run cancelled"


def test_a_cancelled_run_is_pruned_as_one_that_failed(flow: Core) -> None:
    cancelled, going_on = flow.start_many(2)
    cancel(flow, cancelled)
    old = """
    select r from pgflow.old_runs(
      clock_timestamp() + interval '1 second', '00000000-0000-0000-0000-000000000000', 9, '{}'
    ) r
    """
    assert [row.r for row in flow.rows(old)] == [cancelled]
    assert flow.run(going_on).status == "started"
