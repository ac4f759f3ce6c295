"""Many sessions that call as programs written for pgflow do: nothing lost, nothing twice."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import chain
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from ...parts.models.core import Core, Outcome
from ...parts.models.sessions import at_once, meanwhile, sessions, until_waiting
from ...parts.realtime import STAND_IN

READ = "select msg_id from pgmq.read('f', 30, %s)"
COMPLETE = "select * from pgflow.complete_task(%s, 'each', %s, %s)"
ENDED = "select count(*) from pgflow.runs where status = 'completed'"
SHAPE = Jsonb({"steps": [{"slug": "a", "dependencies": []}]})


@pytest.fixture
def four(database: str) -> Iterator[list[Core]]:
    """Four sessions."""
    with sessions(database, 4) as opened:
        yield opened


def define_map(core: Core) -> None:
    core.flow()
    core.rows("select pgflow.add_step('f', 'each', step_type => 'map')")
    core.step("end<each")


def start_maps(core: Core, runs: int) -> list[UUID]:
    inputs = [Jsonb([1, 2])] * runs
    return [row.run_id for row in core.rows("select * from pgflow.start_flows('f', %s)", inputs)]


def test_a_map_whose_last_two_tasks_are_completed_at_once_is_completed_once(four):
    one, other, observer, _ = four
    define_map(one)
    one.db.execute(STAND_IN)
    one.rows("select pgflow.connect_realtime()")
    runs = start_maps(one, 100)

    def complete(core: Core, index: int) -> None:
        for run in runs:
            core.rows(COMPLETE, run, index, Jsonb(f"task {index}"))

    at_once(partial(complete, one, 0), partial(complete, other, 1))
    outputs = observer.rows("select output from pgflow.step_states where step_slug = 'each'")
    assert [row.output for row in outputs] == [["task 0", "task 1"]] * 100
    queued = "select message ->> 'step_slug' as step, count(*) from pgmq.q_f group by 1"
    assert dict(observer.rows(queued)) == {"end": 100}
    sent = "select event, count(*) from realtime.messages group by 1"
    assert dict(observer.rows(sent)) == dict.fromkeys(
        ["run:started", "step:each:started", "step:each:completed", "step:end:started"], 100
    )


def test_no_task_is_started_by_two_sessions(four):
    four[0].flow("a", "b")
    four[0].start_many(200)
    ids = four[0].queued()

    def start(core: Core) -> list[int]:
        return [task.msg_id for task in core.start_tasks(ids)]

    started = list(chain.from_iterable(at_once(*[partial(start, core) for core in four])))
    assert sorted(started) == ids
    assert four[0].rows("select from pgflow.step_tasks where attempts_count <> 1") == []


def test_a_task_is_not_started_once_its_run_has_failed(four):
    one, other, observer, _ = four
    one.flow("a", "b", max_attempts=1)
    run = one.start()
    a, b = one.queued()
    one.start_tasks([a])
    with one.db.transaction():
        one.fail(run, "a")
        assert other.start_tasks([b]) == []
    assert other.start_tasks([b]) == []
    assert observer.tasks(run) == {"a": "failed", "b": "cancelled"}


def test_a_completion_waits_for_the_failure_of_its_run_and_changes_nothing(four):
    one, other, observer, _ = four
    one.flow("a", "b", max_attempts=1)
    run = one.start()
    one.start_tasks(one.queued())
    one.db.execute("begin")
    one.fail(run, "a")
    with meanwhile(other.complete, run, "b", 1) as completed:
        until_waiting(observer, other)
        one.db.execute("commit")
        assert completed.result().status == "cancelled"
    assert observer.run(run).status == "failed"


def test_a_stalled_task_is_queued_again_once(four):
    four[0].flow("a")
    four[0].start_many(100)
    four[0].start_tasks(four[0].queued())
    stale = "update pgflow.step_tasks set started_at = clock_timestamp() - interval '1 hour'"
    four[0].db.execute(stale)
    requeue = "select pgflow.requeue_stalled_tasks()"
    assert sum(at_once(*[partial(core.value, requeue) for core in four])) == 100
    counts = "select requeued_count, count(*) from pgflow.step_tasks group by 1"
    assert dict(four[0].rows(counts)) == {1: 100}


def test_workers_of_both_kinds_share_a_queue(four):
    define_map(four[0])
    runs = start_maps(four[0], 60)

    def work(core: Core, is_ours: bool) -> list[tuple]:
        done = []
        while core.value(ENDED) < len(runs):
            if is_ours:
                tasks = core.claim(5).tasks
            else:
                tasks = core.start_tasks([row.msg_id for row in core.rows(READ, 5)])
            for task in tasks:
                address = (task.run_id, task.step_slug, task.task_index)
                core.rows("select pgflow.complete_task(%s, %s, %s, '1')", *address)
                done.append(address)
        return done

    one = four[0]
    calls = [partial(work, core, n % 2 == 0) for n, core in enumerate(four)]
    done = Counter(chain.from_iterable(at_once(*calls)))
    assert len(done) == 180
    assert set(done.values()) == {1}
    assert one.rows("select from pgflow.step_tasks where attempts_count <> 1") == []
    assert one.queued() == []


def test_a_flow_that_is_compiled_at_once_is_made_once(four):
    compiled = "select pgflow.ensure_flow_compiled('f', %s)"
    calls = [partial(core.value, compiled, SHAPE) for core in four]
    found = [answer["status"] for answer in at_once(*calls)]
    assert sorted(found) == ["compiled", "verified", "verified", "verified"]
    assert four[0].settle(Outcome(four[0].start(), "a", attempt=None)).tasks == []
