"""Many sessions at one map: no element lost, none twice, no deadlock.

A deadlock raises in the session it is found in, and so fails its test.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from ...parts.models.core import COMPLETE, Claim, Core
from ...parts.models.sessions import at_once, meanwhile, sessions, until_waiting
from ...parts.models.windows import make_windows_small

STATE = "select * from pgflow.step_states where run_id = %s and step_slug = %s"
ELEMENTS = 120
# What does not agree with what.
WRONG = """
select s.step_slug, s.status, s.remaining_tasks, s.lost_tasks, s.queued_tasks, t.*
from pgflow.step_states s
cross join lateral (
  select
    count(*) as all, count(*) filter (where t.status = 'completed') as completed,
    count(*) filter (where t.status = 'failed') as failed,
    count(*) filter (where t.status in ('queued', 'started')) as active,
    count(distinct t.task_index) as indexes
  from pgflow.step_tasks t where t.run_id = s.run_id and t.step_slug = s.step_slug
) t
join pgflow.steps o using (flow_slug, step_slug)
where
  t.all <> t.indexes
  or o.step_type = 'map' and (
    s.status = 'completed' and (
      (s.remaining_tasks, s.queued_tasks) <> (0, s.initial_tasks)
      or t.completed + t.failed <> s.initial_tasks
      or coalesce(s.lost_tasks, 0) <> t.failed
    )
    or s.status = 'started' and (
      s.initial_tasks - s.remaining_tasks <> t.completed + t.failed or s.queued_tasks <> t.all
    )
    or s.status = 'skipped' and t.active > 0
  )
"""


@pytest.fixture
def four(database: str) -> Iterator[list[Core]]:
    """Four sessions, of different workers, and small windows."""
    with sessions(database, 4) as opened:
        make_windows_small(opened[0])
        opened[0].flow()
        yield [Core(core.db, UUID(int=n)) for n, core in enumerate(opened, 1)]


def add_map(core: Core, slug: str, deps: str = "{}", **options: object) -> None:
    """Add a map with any options."""
    named = "".join(f", {name} => %s" for name in options)
    add = f"select pgflow.add_step('f', %s, %s, step_type => 'map'{named})"
    core.rows(add, slug, deps, *options.values())


def settle(core: Core, claim: Claim, qty: int, *, share: float = 0) -> Claim:
    """Settle what was claimed, each with its element as its output, and claim more.

    This share of the pages fails for good.
    """
    places = [(t.run_id, t.step_slug, t.task_index, t.attempts_count) for t in claim.tasks]
    outputs = [
        None if task.step_slug == "page" and random.random() < share else Jsonb(output(task))
        for task in claim.tasks
    ]
    return settle_all(core, places, outputs, qty)


def settle_all(core: Core, places: list[tuple], outputs: list, qty: int = 0) -> Claim:
    """Settle tasks, each by run, step, index and attempt; without an output it fails for good."""
    errors = [None if output else "boom" for output in outputs]
    columns = [list(column) for column in zip(*places, strict=True)]
    none = [None for _ in places]
    last = [error is not None for error in errors]
    return core._claim(
        COMPLETE, *columns, outputs, none, errors, last, ["f"], qty, core.worker, None
    )


def output(task) -> object:
    """The element of a map's task, and the number of elements that another step was given."""
    elements = [value for name, value in task.input.items() if name.endswith(".each")]
    return elements[0] if elements else sum(map(len, filter(None, task.input.values())))


def worker(core: Core, qty: int, seen: list, *, share: float = 0):
    """Work until all runs have ended; note each attempt."""
    more = "select exists (select from pgflow.runs where status = 'started')"

    def work() -> None:
        claim = core.claim(qty)
        give_up = time.monotonic() + 40
        while claim.tasks or core.value(more):
            assert time.monotonic() < give_up
            seen.extend((t.run_id, t.step_slug, t.task_index) for t in claim.tasks)
            claim = settle(core, claim, qty, share=share) if claim.tasks else core.claim(qty)

    return work


def test_two_that_complete_the_last_two_elements_at_once_end_the_map_once(four):
    one, other, observer, _ = four
    add_map(observer, "page")
    observer.step("index<page")
    runs = [observer.start(["a", "b"]) for _ in range(100)]
    complete = "select from pgflow.complete_task(%s, 'page', %s, %s)"
    at_once(
        lambda: [one.rows(complete, run, 0, Jsonb("a")) for run in runs],
        lambda: [other.rows(complete, run, 1, Jsonb("b")) for run in runs],
    )
    assert observer.rows(WRONG) == []
    tasks = observer.claim(200).tasks
    assert [(task.step_slug, task.input["page"]) for task in tasks] == [("index", ["a", "b"])] * 100


def test_the_second_of_two_that_end_a_map_waits_for_the_first_and_sees_what_it_did(four):
    one, other, observer, _ = four
    add_map(observer, "page")
    run = observer.start([1, 2])
    complete = "select from pgflow.complete_task(%s, 'page', %s, %s)"
    one.db.execute("begin")
    one.rows(complete, run, 1, Jsonb(2))
    with meanwhile(other.rows, complete, run, 0, Jsonb(1)) as ended:
        until_waiting(observer, other)
        one.db.execute("commit")
        ended.result()
    assert (observer.run(run).status, observer.run(run).output) == ("completed", {"page": [1, 2]})


def test_many_workers_at_a_map_of_a_map_do_each_element_once_and_in_order(four):
    observer = four[0]
    add_map(observer, "page")
    add_map(observer, "text", "{page}")
    observer.step("index<text")
    values = list(range(ELEMENTS))
    runs = [observer.start(values) for _ in range(2)]
    seen: list[list] = [[] for _ in four]
    at_once(*[worker(core, qty, s) for core, qty, s in zip(four, (1, 2, 3, 7), seen, strict=True)])
    counted = Counter(chain.from_iterable(seen))
    assert counted == Counter(
        [(run, step, n) for run in runs for step in ("page", "text") for n in values]
        + [(run, "index", 0) for run in runs]
    )
    assert observer.rows(WRONG) == []
    for run in runs:
        assert observer.row(STATE, run, "text").output == values
        assert observer.run(run).status == "completed"
    assert observer.queued() == []


def test_elements_that_are_lost_while_others_complete_are_counted_once(four):
    observer = four[0]
    add_map(observer, "page", tolerate="1", max_attempts=1)
    runs = [observer.start(list(range(ELEMENTS))) for _ in range(2)]
    seen: list = []
    at_once(*[worker(core, 3, seen, share=0.3) for core in four])
    assert observer.rows(WRONG) == []
    for run in runs:
        state = observer.row(STATE, run, "page")
        assert (state.status, state.output.count(None)) == ("completed", state.lost_tasks)
        assert [v for v in state.output if v is not None] == [
            n for n, value in enumerate(state.output) if value is not None
        ]


@pytest.mark.parametrize("exhausted", ["skip", "skip-cascade", "fail"])
def test_a_step_that_is_given_up_while_others_complete_its_elements_ends_once(four, exhausted):
    observer = four[0]
    add_map(observer, "page", when_exhausted=exhausted, max_attempts=1)
    observer.step("index<page")
    for _ in range(25):
        observer.start(list(range(12)))
    seen: list = []
    at_once(*[worker(core, 3, seen, share=0.1) for core in four])
    assert observer.rows(WRONG) == []
    assert max(Counter(seen).values()) == 1
    statuses = {row.status for row in observer.rows("select status from pgflow.runs")}
    assert statuses == ({"completed", "failed"} if exhausted == "fail" else {"completed"})
    assert observer.queued() == []
    active = "select from pgflow.step_tasks where status in ('queued', 'started')"
    assert observer.rows(active) == []


def test_settling_the_same_elements_in_opposite_orders_does_not_lock(four):
    """Batches of elements of several runs, with the ends of windows and maps in them."""
    one, other, claimer, observer = four
    add_map(observer, "page", max_attempts=99)
    runs = [observer.start(list(range(12))) for _ in range(20)]

    def often(core: Core, order: list[UUID]) -> Callable[[], None]:
        def settle_each() -> None:
            for n in range(12):
                elements = [(run, "page", n, None) for run in order]
                settle_all(core, elements, [Jsonb(n) for _ in order])

        return settle_each

    # Each settles what is there, which more follows: so until all are done.
    while observer.rows("select from pgflow.runs where status = 'started'"):
        at_once(
            often(one, runs), often(other, runs[::-1]), lambda: [claimer.claim(5) for _ in range(9)]
        )
    assert observer.rows(WRONG) == []
    outputs = observer.rows("select distinct output from pgflow.runs")
    assert [row.output for row in outputs] == [{"page": list(range(12))}]
