"""The rules of runs, tasks and messages, once more and as plain as can be, to compare SQL with.

Time has two moments here: a message is visible or hidden, and who wants it visible says so.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from .core import Outcome

Message = tuple[str, int]  # a flow, and the id in its queue


@dataclass(frozen=True, repr=False)
class Shape:
    """A flow: its steps in order, each with those it waits for."""

    slug: str
    steps: dict[str, tuple[str, ...]]
    max_attempts: int
    base_delay: int  # seconds: none, or more than a test takes

    def __repr__(self) -> str:
        return self.slug

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(self.slug)

    @property
    def leaves(self) -> set[str]:
        return set(self.steps) - {dep for deps in self.steps.values() for dep in deps}


def shape(slug: str, *steps: str, max_attempts: int = 2, base_delay: int = 0) -> Shape:
    """A flow; a step "d<b,c" waits for b and c."""
    parts = [step.partition("<") for step in steps]
    deps = {name: tuple(deps.split(",")) if deps else () for name, _, deps in parts}
    return Shape(slug, deps, max_attempts, base_delay)


SHAPES = [
    shape("chain", "a", "b<a", "c<b"),
    shape("diamond", "a", "b<a", "c<a", "d<b,c", base_delay=3600),
    shape("fan", "a", "b<a", "c<a", "d<a", "e<b,c,d", max_attempts=1),
    shape("two_roots", "a", "b", "c<a,b"),
    shape("single", "a", max_attempts=1),
]


@dataclass(eq=False, repr=False)
class Task:
    """A task, and its message while it is queued."""

    run: "Run"
    step: str
    status: str = "queued"
    attempts: int = 0
    visible: bool = True
    message: int | None = None  # known once it is committed
    worker: UUID | None = None
    is_under_way: bool = False
    output: Any = None

    def __repr__(self) -> str:
        return f"{self.run}.{self.step}"

    @property
    def key(self) -> Message:
        """Its message."""
        assert self.message
        return self.run.shape.slug, self.message

    @property
    def input(self) -> dict[str, Any]:
        """What its handler is given."""
        deps = self.run.shape.steps[self.step]
        return {"run": self.run.input} | {dep: self.run.tasks[dep].output for dep in deps}

    @property
    def has_lapsed(self) -> bool:
        """Whether its last attempt gave no answer in time."""
        last = self.attempts >= self.run.shape.max_attempts
        return self.status == "queued" and self.visible and last


@dataclass
class State:
    """A step of a run."""

    status: str
    remaining_deps: int
    remaining_tasks: int = 1


@dataclass(eq=False, repr=False)
class Run:
    """A run of a flow."""

    id: UUID
    shape: Shape
    input: Any
    status: str = "started"
    output: dict[str, Any] | None = None
    states: dict[str, State] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"{self.shape.slug} {str(self.id)[-4:]}"

    @property
    def remaining_steps(self) -> int:
        return sum(state.status != "completed" for state in self.states.values())


@dataclass
class Taken:
    """What a claim takes, and the messages without a task that it archives."""

    tasks: list[Task] = field(default_factory=list)
    strays: list[Message] = field(default_factory=list)
    seen: set[Message] = field(default_factory=set)
    """All that it looked at and holds, though it may leave some: those whose tasks have lapsed."""
    due: bool = False
    """Whether it says that more is due without a look, as its slots are used up."""
    looked: list[str] = field(default_factory=list)
    """The flows at which it looks afterwards, as it found nothing there or left something."""


@dataclass
class Settled:
    """What a call has to say of outcomes."""

    refused: list[int] | None
    touched: list[Task]
    handed_over: list[Task]
    owed_tasks: set[str]
    owed_runs: set[str]


class Model:
    """All runs, the messages of tasks whose runs were deleted, and those that no flow sent."""

    def __init__(self) -> None:
        self.runs: dict[UUID, Run] = {}
        self.strays: dict[str, dict[int, bool]] = {each.slug: {} for each in SHAPES}
        self.archived: dict[str, set[int]] = {each.slug: set() for each in SHAPES}
        self.foreign: dict[str, set[int]] = {each.slug: set() for each in SHAPES}

    def tasks(self) -> Iterator[Task]:
        for run in self.runs.values():
            yield from run.tasks.values()

    def start(self, run_id: UUID, shape: Shape, value: Any) -> None:
        run = self.runs[run_id] = Run(run_id, shape, value)
        for step, deps in shape.steps.items():
            run.states[step] = State("created", len(deps))
            if not deps:
                self._begin(run, step)

    def visible(self, slug: str) -> list[tuple[int, Task | None]]:
        """The visible messages of a flow by their ids, with their tasks."""
        queued = [
            (task.message, task)
            for task in self.tasks()
            if task.run.shape.slug == slug and task.status == "queued" and task.visible
        ]
        strays = [(message, None) for message, visible in self.strays[slug].items() if visible]
        return sorted([*queued, *strays], key=lambda pair: pair[0])

    def is_due(self, slugs: Sequence[str]) -> bool | None:
        """Whether any message is visible; None if there is none at all."""
        if any(self.visible(slug) for slug in slugs):
            return True
        queued = {task.run.shape.slug for task in self.tasks() if task.status == "queued"}
        return False if any(slug in queued or self.strays[slug] for slug in slugs) else None

    def claimable(self, slugs: Sequence[str], qty: int, held: set[Message]) -> Taken:
        """What a claim takes, while others hold some messages."""
        taken = Taken()
        for slug in slugs:
            free = [pair for pair in self.visible(slug) if (slug, pair[0]) not in held]
            taken.due = taken.due or len(taken.tasks) == qty
            while missing := qty - len(taken.tasks):
                first, free_after = free[:missing], free[missing:]
                found = [task for _, task in first if task and not task.has_lapsed]
                taken.tasks += found
                taken.seen |= {(slug, message) for message, _ in first}
                dead = [message for message, task in first if not task]
                if found or not dead:
                    taken.due = taken.due or len(found) == missing
                    if not found or len(found) < len(first):
                        taken.looked.append(slug)
                    break
                taken.strays += [(slug, message) for message in dead]
                free = [pair for pair in first if pair[1]] + free_after
        return taken

    def take(self, taken: Taken, worker: UUID | None) -> None:
        for slug, message in taken.strays:
            del self.strays[slug][message]
            self.archived[slug].add(message)
        self.claim(taken.tasks, worker)

    def claim(self, tasks: Iterable[Task], worker: UUID | None) -> None:
        for task in tasks:
            task.attempts, task.visible, task.worker = task.attempts + 1, False, worker
            task.is_under_way = True

    def settle(self, outcomes: Sequence[Outcome], qty: int, worker: UUID | None) -> Settled:
        """Settle a set of tasks, no task twice; hand over up to `qty` of what becomes ready."""
        tasks = [self.task(outcome.run_id, outcome.step_slug) for outcome in outcomes]
        accepted = [
            bool(task and task.run.status == "started" and task.status == "queued")
            and outcome.attempt in {None, task.attempts}
            for outcome, task in zip(outcomes, tasks, strict=True)
        ]
        settled = [
            (outcome, task)
            for outcome, task, ok in zip(outcomes, tasks, accepted, strict=True)
            if ok and task
        ]
        retried = [task for outcome, task in settled if self._end(task, outcome)]
        failing = list(dict.fromkeys(t.run for _, t in settled if t.status == "failed"))
        ready = self._count_down([task for _, task in settled], failing)
        ended = self._complete_runs([task.run for _, task in settled])
        cancelled = [task for run in failing for task in self._fail(run)]
        self.claim(ready[:qty], worker)
        return Settled(
            self._refused(outcomes, tasks, accepted),
            [*(task for _, task in settled), *cancelled],
            ready[:qty],
            {task.run.shape.slug for task in [*ready[qty:], *retried]},
            {run.shape.slug for run in [*ended, *failing]},
        )

    def task(self, run_id: UUID, step: str) -> Task | None:
        run = self.runs.get(run_id)
        return run.tasks.get(step) if run else None

    def _end(self, task: Task, outcome: Outcome) -> bool:
        """Complete or fail it; whether it is queued again."""
        shape = task.run.shape
        if outcome.error is None:
            task.status, task.output = "completed", outcome.output
        elif outcome.permanent or task.attempts >= shape.max_attempts:
            task.status = "failed"
        else:
            task.visible, task.worker = shape.base_delay == 0, None
            task.is_under_way = False
            return True
        self._archive(task)
        return False

    def _archive(self, task: Task) -> None:
        assert task.message
        self.archived[task.run.shape.slug].add(task.message)

    def _count_down(self, settled: Sequence[Task], failing: list[Run]) -> list[Task]:
        """Count completed steps off those that wait for them; the tasks that start, in order."""
        counted: dict[tuple[Run, str], int] = {}  # with the place of the first dependency
        for place, task in enumerate(settled):
            if task.status == "completed":
                state = task.run.states[task.step]
                state.status, state.remaining_tasks = "completed", 0
                for step, deps in task.run.shape.steps.items():
                    if task.step in deps and task.run.states[step].status == "created":
                        task.run.states[step].remaining_deps -= 1
                        counted.setdefault((task.run, step), place)
        ready = [
            (place, [*run.states].index(step), run, step)
            for (run, step), place in counted.items()
            if not run.states[step].remaining_deps and run not in failing
        ]
        return [self._begin(run, step) for *_, run, step in sorted(ready, key=lambda r: r[:2])]

    def _begin(self, run: Run, step: str) -> Task:
        run.states[step].status = "started"
        task = run.tasks[step] = Task(run, step)
        return task

    def _complete_runs(self, runs: Iterable[Run]) -> list[Run]:
        ended = [run for run in dict.fromkeys(runs) if not run.remaining_steps]
        for run in ended:
            run.status = "completed"
            run.output = {step: run.tasks[step].output for step in run.shape.leaves}
        return ended

    def _fail(self, run: Run) -> Iterator[Task]:
        """Let a run fail; the tasks that are cancelled."""
        run.status = "failed"
        for task in run.tasks.values():
            state = run.states[task.step]
            if task.status == "failed":
                state.status = "failed"
            elif task.status == "queued":
                task.status = state.status = "cancelled"
                self._archive(task)
                yield task

    def _refused(
        self, outcomes: Sequence[Outcome], tasks: Sequence[Task | None], accepted: Sequence[bool]
    ) -> list[int] | None:
        if all(accepted):
            return None
        return [
            place
            for place, (outcome, task, ok) in enumerate(
                zip(outcomes, tasks, accepted, strict=True), 1
            )
            # Who has completed a task may say so again.
            if not ok
            and not (task and task.status == "completed" and task.attempts == outcome.attempt)
        ]

    def release(self, task: Task) -> None:
        task.attempts, task.visible, task.worker = task.attempts - 1, True, None
        task.is_under_way = False

    def requeue(self, task: Task) -> None:
        """Send its message again, to be claimed when the lost one could have been."""
        waits = task.is_under_way or task.run.shape.base_delay
        task.message, task.visible = None, not (task.attempts and waits)

    def lapsed(self, slugs: Sequence[str]) -> list[Task]:
        return [task for task in self.tasks() if task.has_lapsed and task.run.shape.slug in slugs]

    def delete(self, run: Run) -> None:
        """Delete a run; the messages of its tasks stay where they are."""
        del self.runs[run.id]
        for task in run.tasks.values():
            if task.status == "queued":
                assert task.message
                self.strays[run.shape.slug][task.message] = task.visible
