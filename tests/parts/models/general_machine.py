"""What a state machine of runs that are not plain chooses from, and compares with the model."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, TypeVar
from uuid import UUID

import orjson
from hypothesis.stateful import RuleBasedStateMachine, invariant

from .core import Core
from .general_flows import Shape, define
from .general_model import ACTIVE, Address, Run, Task

SLUG = "general"
RUNS = "select run_id, status, output, output_blobs_refs, remaining_steps from pgflow.runs"
STATES = """
select run_id, step_slug, status, initial_tasks, remaining_tasks, remaining_deps, queued_tasks,
  lost_tasks, output, output_blob_id, skip_reason
from pgflow.step_states
"""
TASKS = """
select run_id, step_slug, task_index, status, attempts_count, worker_id, message_id, output,
  output_blob_id
from pgflow.step_tasks
"""
QUEUE = f"select msg_id, vt <= clock_timestamp() from pgmq.q_{SLUG}"
BLOB = "select content, elements from pgflow.output_blobs where id = %s"
LEFT = "select from pgflow.map_elements where run_id not in (select run_id from pgflow.runs)"
ARCHIVE = f"select msg_id from pgmq.a_{SLUG}"


T = TypeVar("T")
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
        faults = self.observer.rows("select * from pgflow.blob_faults()")
        assert not faults, faults
        assert not self.observer.rows(LEFT), "elements of a run that was deleted"
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
            task.status, task.visible, task.worker = "queued", False, worker
            task.attempts += 1
            given = record.input | values_of(self.observer, record.blobs_refs)
            assert (record.attempts_count, given) == (task.attempts, task.input), (
                given,
                task.input,
            )
            self.leases.append((task.address, task.attempts))

    def leased(self, luck: Random) -> list[Lease]:
        """Some attempts that may be settled, now or never, no task twice."""
        at_work = [(t.address, t.attempts) for t in self.tasks if t.status in ACTIVE and t.attempts]
        leases = at_work if at_work and luck.random() < 0.5 else self.leases
        return [*{address: (address, n) for address, n in some_of(luck, leases)}.values()]

    @invariant()
    def they_agree(self) -> None:
        runs = {row.run_id: row for row in self.observer.rows(RUNS)}
        assert runs.keys() == self.runs.keys()
        for run in self.runs.values():
            row = runs[run.id]
            refs = values_of(self.observer, row.output_blobs_refs or {})
            output = row.output if not refs else row.output | refs
            assert (row.status, output) == (run.status, run.output), (run, output)
            if run.status != "failed":
                assert row.remaining_steps == run.remaining_steps, run
        self._compare_tasks()
        for row in self.observer.rows(STATES):
            compare_state(self.observer, self.runs[row.run_id], row)

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
                output = output_of(self.observer, given[key])
                assert orjson.dumps(output) == orjson.dumps(task.output), task
        active = {n: t for n, t in self.messages.items() if t.status in ACTIVE}
        queue = dict(map(tuple, self.observer.rows(QUEUE)))
        differ = {*queue.items()} ^ {(n, task.visible) for n, task in active.items()}
        differ = {(n, visible) for n, visible in differ if n not in self.strays}
        assert not differ, [(self.messages.get(n), visible) for n, visible in differ]
        archive = [row.msg_id for row in self.observer.rows(ARCHIVE)]
        ended = self.messages.keys() - active.keys()
        assert sorted(n for n in archive if n not in self.strays) == sorted(ended)


def some_of(luck: Random, things: Sequence[T]) -> list[T]:
    """Up to three of them."""
    return luck.sample(things, min(len(things), luck.randint(1, 3)))


def output_of(core: Core, row: Any) -> Any:
    """The output of a row, from where it is."""
    return value_of(core, row.output_blob_id) if row.output_blob_id else row.output


def values_of(core: Core, refs: dict[str, UUID]) -> dict[str, Any]:
    return {name: value_of(core, UUID(str(blob_id))) for name, blob_id in refs.items()}


def value_of(core: Core, blob_id: UUID) -> Any:
    """A blob that SQL stored: JSON, or a list that has other blobs as its elements."""
    blob = core.row(BLOB, blob_id)
    value = orjson.loads(bytes(blob.content))
    if blob.elements is None:
        return value
    elements = zip(value, blob.elements, strict=True)
    return [value_of(core, ref) if ref else inline for inline, ref in elements]


def compare_state(core: Core, run: Run, row: Any) -> None:
    """Compare what the row of a step says, where it means something."""
    state, said = run.states[row.step_slug], (run, row)
    if run.status == "failed":
        # What else was ready at that moment may be done or not, and a map that lost an element may
        # count as one that failed.
        has_failed = row.status == "failed"
        assert has_failed == (state.status == "failed") or (has_failed and state.lost), said
        # As in pgflow, complete_task() leaves other steps as they are if an output is no list.
        assert row.status != "started" or run.is_refused, said
        return
    assert (row.status, row.skip_reason) == (state.status, state.reason), said
    if state.step.is_map:
        assert output_of(core, row) == state.output, said
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
