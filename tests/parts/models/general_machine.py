"""What a state machine of runs that are not plain chooses from, and compares with the model."""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import orjson
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant

from .core import Core
from .general_flows import Shape, define
from .general_model import ACTIVE, Address, Run, Task
from .sql_machine import pick_some

SLUG = "general"
RUNS = "select run_id, status, output, remaining_steps from pgflow.runs"
STATES = """
select run_id, step_slug, status, initial_tasks, remaining_tasks, remaining_deps, queued_tasks,
  lost_tasks, output, skip_reason
from pgflow.step_states
"""
TASKS = """
select run_id, step_slug, task_index, status, attempts_count, worker_id, message_id, output
from pgflow.step_tasks
"""
QUEUE = f"select msg_id, vt <= clock_timestamp() from pgmq.q_{SLUG}"
ARCHIVE = f"select msg_id from pgmq.a_{SLUG}"


Lease = tuple[Address, int]  # a task, and the number of an attempt that somebody may still settle


class Machine(RuleBasedStateMachine):
    """Sessions of the SQL core, one that observes, and the model; without rules."""

    def __init__(self, cores: Sequence[Core]) -> None:
        super().__init__()
        *self.cores, self.observer = cores
        self.runs: dict[UUID, Run] = {}
        self.leases: list[Lease] = []
        self.messages: dict[int, Task] = {}
        self.strays: set[int] = set()
        """Messages whose tasks were deleted."""

    def define(self, shape: Shape) -> None:
        """Make these the steps of the flow."""
        self.shape = shape
        define(self.observer, shape)

    def teardown(self) -> None:
        self.observer.db.execute(f"""
            delete from pgflow.runs; delete from pgmq.q_{SLUG}; delete from pgmq.a_{SLUG};
            delete from pgflow.deps; delete from pgflow.steps
        """)

    @property
    def tasks(self) -> Iterator[Task]:
        for run in self.runs.values():
            yield from run.tasks

    @property
    def claimable(self) -> list[Task]:
        return [t for t in self.tasks if t.status in ACTIVE and t.visible and not t.is_spent]

    @property
    def lapsed(self) -> list[Task]:
        return [task for task in self.tasks if task.has_lapsed]

    def task(self, address: Address) -> Task | None:
        run_id, slug, index = address
        run = self.runs.get(run_id)
        return run.states[slug].tasks.get(index) if run else None

    def taken(self, records: Sequence[Any], worker: UUID | None, qty: int) -> None:
        """Compare what a call has claimed with what it may, and note it."""
        free = self.claimable
        # Messages of lapsed tasks, and those without tasks, may take the place of others.
        assert len(records) == min(qty, len(free)) or self.lapsed or self.strays
        for record in records:
            task = self.task((record.run_id, record.step_slug, record.task_index))
            assert task in free
            task.attempts, task.visible, task.worker = task.attempts + 1, False, worker
            assert (record.attempts_count, record.input) == (task.attempts, task.input)
            self.leases.append((task.address, task.attempts))

    def leased(self, data: st.DataObject) -> list[Lease]:
        """Some attempts that may be settled, now or never, no task twice."""
        at_work = [(t.address, t.attempts) for t in self.tasks if t.status in ACTIVE and t.attempts]
        leases = at_work if at_work and data.draw(st.booleans()) else self.leases
        return [*{address: (address, n) for address, n in pick_some(data, leases)}.values()]

    @invariant()
    def they_agree(self) -> None:
        runs = {row.run_id: row for row in self.observer.rows(RUNS)}
        assert runs.keys() == self.runs.keys()
        for run in self.runs.values():
            row = runs[run.id]
            assert (row.status, row.output) == (run.status, run.output), run
            if run.status != "failed":
                assert row.remaining_steps == run.remaining_steps, run
        self._compare_tasks()
        for row in self.observer.rows(STATES):
            compare_state(self.runs[row.run_id], row)

    def _compare_tasks(self) -> None:
        found = self.observer.rows(TASKS)
        given = {tuple(row)[:6]: row for row in found}
        assert len(given) == len(found)
        due = {(*t.address, t.status, t.attempts, t.worker): t for t in self.tasks}
        differ = {*given} ^ {*due}
        assert not differ, differ
        self.messages = {row.message_id: due[key] for key, row in given.items()}
        assert len(self.messages) == len(found)
        for key, task in due.items():
            if task.status in {"completed", "failed"}:
                assert orjson.dumps(given[key].output) == orjson.dumps(task.output), task
        active = {n: t for n, t in self.messages.items() if t.status in ACTIVE}
        queue = dict(map(tuple, self.observer.rows(QUEUE)))
        differ = {*queue.items()} ^ {(n, task.visible) for n, task in active.items()}
        differ = {(n, visible) for n, visible in differ if n not in self.strays}
        assert not differ, [(self.messages.get(n), visible) for n, visible in differ]
        archive = [row.msg_id for row in self.observer.rows(ARCHIVE)]
        ended = self.messages.keys() - active.keys()
        assert sorted(n for n in archive if n not in self.strays) == sorted(ended)


def compare_state(run: Run, row: Any) -> None:
    """Compare what the row of a step says, where it means something."""
    state, said = run.states[row.step_slug], (run, row)
    if run.status == "failed":
        # What else was ready at that moment may be done or not, and a map that lost an element may
        # count as one that failed.
        has_failed = row.status == "failed"
        assert has_failed == (state.status == "failed") or (has_failed and state.lost), said
        assert row.status != "started", said
        return
    assert (row.status, row.skip_reason) == (state.status, state.reason), said
    if state.step.is_map:
        assert row.output == state.output, said
    match state.status:
        case "created":
            assert row.remaining_deps == run.remaining_deps(state.step), said
        case "started":
            left = state.initial - state.done
            assert (row.initial_tasks, row.remaining_tasks) == (state.initial, left), said
        case "completed":
            assert (row.remaining_tasks, row.remaining_deps) == (0, 0), said
    if state.status == "started" and state.step.is_map:
        assert (row.queued_tasks, row.lost_tasks or 0) == (len(state.tasks), state.lost), said
