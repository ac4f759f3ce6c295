"""What a state machine of the SQL functions chooses from, and compares with the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant

from .core import Core, Outcome
from .sql_model import SHAPES, Message, Model, Run, Task

SLUGS = [each.slug for each in SHAPES]
RUNS = "select run_id, status, output, remaining_steps from pgflow.runs"
STATES = "select run_id, step_slug, status, remaining_tasks, remaining_deps from pgflow.step_states"
TASKS = """
select run_id, step_slug, status, attempts_count, message_id, worker_id, output
from pgflow.step_tasks
"""
QUEUES = " union all ".join(
    f"select '{slug}' as slug, msg_id, vt <= clock_timestamp() as visible from pgmq.q_{slug}"
    for slug in SLUGS
)
ARCHIVES = " union all ".join(
    f"select '{slug}' as slug, msg_id from pgmq.a_{slug}" for slug in SLUGS
)

T = TypeVar("T")

some = st.integers(0, 4)


@dataclass
class Open:
    """A transaction that is open: what it holds, and what it does once it is committed."""

    commit: Callable[[], None]
    messages: set[Message]
    runs: set[UUID] = field(default_factory=set)  # held as a whole


@dataclass(frozen=True, repr=False)
class Lease:
    """A claim of a task that somebody may still say something of."""

    run_id: UUID
    step: str
    attempt: int

    def __repr__(self) -> str:
        return f"{str(self.run_id)[-4:]}.{self.step}, attempt {self.attempt}"


class Machine(RuleBasedStateMachine):
    """Several sessions of the SQL core, one that observes, and the model; without rules."""

    def __init__(self, cores: Sequence[Core]) -> None:
        super().__init__()
        *self.cores, self.observer = cores
        self.model = Model()
        self.open: dict[Core, Open] = {}
        self.leases: list[Lease] = []

    def teardown(self) -> None:
        for core in self.cores:
            core.db.rollback()  # what failed may have left one open
        self.observer.db.execute("delete from pgflow.runs")
        for slug in SLUGS:
            self.observer.db.execute(f"delete from pgmq.q_{slug}; delete from pgmq.a_{slug}")

    # What is there to choose from.

    def core(self, data: st.DataObject) -> Core:
        return pick(data, [core for core in self.cores if core not in self.open])

    def slugs(self, data: st.DataObject) -> list[str]:
        """The flows of a worker: all, in any order, or one."""
        slugs = [each.slug for each in self.shapes]
        return data.draw(st.sampled_from([slugs, slugs[::-1], slugs[:1]]))

    @property
    def held(self) -> set[Message]:
        return {message for each in self.open.values() for message in each.messages}

    def is_held(self, run_id: UUID) -> bool:
        """Whether to settle tasks of this run would wait for an open transaction."""
        run = self.model.runs.get(run_id)
        queued = [task.key for task in run.tasks.values() if task.message] if run else []
        return any(run_id in each.runs for each in self.open.values()) or not self.held.isdisjoint(
            queued
        )

    def free_runs(self) -> list[Run]:
        return [run for run in self.model.runs.values() if not self.is_held(run.id)]

    def lapsed_are_free(self) -> bool:
        """Whether none of the runs with lapsed tasks has another one that is being claimed."""
        claimed = {
            task.run for task in self.model.tasks() if task.message and task.key in self.held
        }
        whole = {run_id for each in self.open.values() for run_id in each.runs}
        lapsed = {task.run for task in self.model.lapsed(SLUGS)}
        return all(run.id in whole for run in claimed & lapsed)

    def outcomes(self, data: st.DataObject) -> list[Outcome]:
        """Of some attempts, the last ones or older ones, and once in a while of whichever it is."""
        free = [lease for lease in self.leases if not self.is_held(lease.run_id)]
        leases = [
            *free,
            *(Lease(run.id, step, 0) for run in self.free_runs() for step in run.tasks),
        ]
        late = [lease for lease in free if self.is_late(lease)]
        if late and data.draw(st.booleans()):
            leases = late
        chosen = {(lease.run_id, lease.step): lease for lease in pick_some(data, leases)}
        return [self.outcome(data, lease) for lease in chosen.values()]

    def is_late(self, lease: Lease) -> bool:
        task = self.model.task(lease.run_id, lease.step)
        return bool(task and task.status == "queued" and task.attempts > lease.attempt)

    def outcome(self, data: st.DataObject, lease: Lease) -> Outcome:
        fails = data.draw(st.sampled_from([False, False, True]))
        return Outcome(
            lease.run_id,
            lease.step,
            lease.attempt or None,
            None if fails else data.draw(some),
            error="boom" if fails else None,
            permanent=fails and data.draw(st.booleans()),
        )

    def may_open(self) -> bool:
        return len(self.open) < len(self.cores) - 1

    def note(self, tasks: Sequence[Task]) -> None:
        """Remember who may say something of these tasks."""
        self.leases += [Lease(task.run.id, task.step, task.attempts) for task in tasks]

    def adopt(self) -> None:
        """Learn the messages of new tasks."""
        for row in self.observer.rows(TASKS):
            task = self.model.task(row.run_id, row.step_slug)
            if task and task.message is None:
                task.message = row.message_id

    @invariant()
    def they_agree(self) -> None:
        self.adopt()
        model = self.model
        runs, tasks = model.runs.values(), list(model.tasks())
        queued = [task for task in tasks if task.status == "queued"]
        assert rows(self.observer, RUNS) == {
            (run.id, run.status, frozen(run.output), run.remaining_steps) for run in runs
        }
        assert rows(self.observer, STATES) == {
            (run.id, step, state.status, state.remaining_tasks, state.remaining_deps)
            for run in runs
            for step, state in run.states.items()
        }
        assert rows(self.observer, TASKS) == {
            (t.run.id, t.step, t.status, t.attempts, t.message, t.worker, t.output) for t in tasks
        }
        assert rows(self.observer, QUEUES) == {
            *((*task.key, task.visible) for task in queued),
            *((slug, *stray) for slug, strays in model.strays.items() for stray in strays.items()),
            *((slug, message, True) for slug, sent in model.foreign.items() for message in sent),
        }
        assert rows(self.observer, ARCHIVES) == {
            (slug, message) for slug, archived in model.archived.items() for message in archived
        }


def pick(data: st.DataObject, things: Sequence[T]) -> T:
    """One of them, by its place, which can be drawn again where ids are others."""
    return things[data.draw(st.integers(0, len(things) - 1))]


def pick_some(data: st.DataObject, things: Sequence[T]) -> list[T]:
    """One to three of them, if there are any."""
    if not things:
        return []
    places = st.lists(st.integers(0, len(things) - 1), min_size=1, max_size=3, unique=True)
    return [things[place] for place in data.draw(places)]


def frozen(value: Any) -> Any:
    """A value that can be in a set."""
    return tuple(sorted(value.items())) if isinstance(value, dict) else value


def rows(core: Core, query: str) -> set[tuple]:
    """All rows, of which no two may be the same."""
    found = [tuple(map(frozen, row)) for row in core.rows(query)]
    assert len(set(found)) == len(found)
    return set(found)
