"""The rules of maps, conditions, skipping and lost elements, once more and as plain as can be.

Only what follows from what: which message a claim takes is left to SQL, and checked against what it
may take.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any
from uuid import UUID

from .containment import is_met
from .general_flows import Shape, Step
from .windows import LOW, WINDOW

ACTIVE = {"queued", "started"}
Address = tuple[UUID, str, int]  # of a task


@dataclass(eq=False)
class Task:
    """A task: of a map, one of an element."""

    run: "Run"
    step: Step
    index: int
    status: str = "queued"
    attempts: int = 0
    visible: bool = True
    worker: UUID | None = None
    output: Any = None

    def __repr__(self) -> str:
        return f"{str(self.run.id)[-4:]}.{self.step.slug}[{self.index}]"

    @property
    def address(self) -> Address:
        return self.run.id, self.step.slug, self.index

    @property
    def input(self) -> dict[str, Any]:
        """What its handler is given."""
        if not self.step.is_map:
            return {"run": self.run.input} | self.run.outputs(self.step.deps)
        fed_by = self.step.deps[0] if self.step.deps else "run"
        element = self.run.elements(self.step)[self.index]
        return {"run": self.run.input, f"{fed_by}.each": element}

    @property
    def is_spent(self) -> bool:
        return self.attempts >= self.step.attempts

    @property
    def has_lapsed(self) -> bool:
        """Whether its last attempt gave no answer in time."""
        return self.status in ACTIVE and self.visible and self.is_spent


@dataclass
class State:
    """A step of a run."""

    step: Step
    status: str = "created"
    tasks: dict[int, Task] = field(default_factory=dict)
    initial: int | None = None
    """How many tasks it will have; None: not known yet."""
    reason: str | None = None
    """Why it was skipped."""
    output: Any = None

    @property
    def lost(self) -> int:
        """How many elements were given up."""
        return sum(task.status == "failed" for task in self.tasks.values())

    @property
    def may_lose(self) -> int:
        share = Fraction(self.step.tolerate or "0")
        return int(share * (self.initial or 0))

    @property
    def done(self) -> int:
        """How many tasks have ended and count."""
        return sum(task.status in {"completed", "failed"} for task in self.tasks.values())

    @property
    def is_done(self) -> bool:
        return self.done == self.initial


class Run:
    """A run of a flow."""

    def __init__(self, run_id: UUID, shape: Shape, value: Any) -> None:
        self.id, self.shape, self.input = run_id, shape, value
        self.status = "started"
        self.output: dict[str, Any] | None = None
        self.states = {step.slug: State(step) for step in shape.steps}
        self.is_refused = False
        """Whether it has failed by an output that is no list."""
        self.late = False
        """Whether its first tasks start late."""
        self.failing: list[State] = []
        """The steps that it fails by, once all else of a call is done."""
        for state in self.states.values():
            if not state.step.is_map:
                state.initial = 1
            elif not state.step.deps:
                state.initial = len(value)

    def __repr__(self) -> str:
        return f"run {str(self.id)[-4:]} of {self.shape}, {self.input!r}"

    @property
    def tasks(self) -> Iterator[Task]:
        for state in self.states.values():
            yield from state.tasks.values()

    @property
    def remaining_steps(self) -> int:
        return sum(state.status not in {"completed", "skipped"} for state in self.states.values())

    def remaining_deps(self, step: Step) -> int:
        return sum(self.states[d].status not in {"completed", "skipped"} for d in step.deps)

    def outputs(self, slugs: Sequence[str]) -> dict[str, Any]:
        """Those of the steps that have one."""
        states = [self.states[slug] for slug in slugs]
        return {s.step.slug: s.output for s in states if s.status == "completed"}

    def elements(self, step: Step) -> list[Any]:
        """What a map goes over."""
        return self.states[step.deps[0]].output if step.deps else self.input

    def settle(self) -> None:
        """Do what follows from what has just changed, until nothing more does."""
        if self.failing:
            self._fail(*self.failing)
        while self.status == "started" and self._is_changed():
            pass
        if self.status == "started":
            for state in self._ready():
                state.status = "started"
                self._queue(state, visible=not (self.late or state.step.start_delay))
            self._fill_windows()
            self.late = False
            self._complete()

    def _is_changed(self) -> bool:
        return self._refuse_no_lists() or self._resolve() or self._end_empty_maps()

    def _refuse_no_lists(self) -> bool:
        """Fail the run if a map would go over no list; else learn how long the lists are."""
        for state in self._ready():
            if state.initial is None:
                fed_by = self.states[state.step.deps[0]]
                if fed_by.status == "completed" and not isinstance(fed_by.output, list):
                    fed_by.tasks[0].status = "failed"
                    self.is_refused = True
                    self._fail(fed_by)
                    return True
                state.initial = len(fed_by.output) if fed_by.status == "completed" else 0
        return False

    def _ready(self) -> list[State]:
        return [
            state
            for state in self.states.values()
            if state.status == "created" and not self.remaining_deps(state.step)
        ]

    def _is_met(self, step: Step) -> bool:
        data = {"run": self.input} | self.outputs(step.deps) if step.deps else self.input
        return is_met(data, step.required, step.forbidden)

    def _resolve(self) -> bool:
        """Skip or fail what is ready and must not run; whether anything changed."""
        unmet = [state for state in self._ready() if not self._is_met(state.step)]
        if failing := [state for state in unmet if state.step.unmet == "fail"]:
            self._fail(failing[0])
            return True
        for state in unmet:
            if state.status == "created":
                self.skip(state, "condition_unmet", cascades=state.step.unmet == "skip-cascade")
        return bool(unmet)

    def skip(self, state: State, reason: str, *, cascades: bool) -> None:
        """Skip a step, and perhaps all that depends on it."""
        self._skip(state, reason)
        for step in self.shape.below(state.step.slug) if cascades else ():
            if self.states[step.slug].status in {"created", "started"}:
                self._skip(self.states[step.slug], "dependency_skipped")

    def _skip(self, state: State, reason: str) -> None:
        state.status, state.reason = "skipped", reason
        self._end_tasks(state, "skipped")

    def _end_tasks(self, state: State, status: str) -> None:
        for task in state.tasks.values():
            if task.status in ACTIVE:
                task.status = status

    # Steps that start and end.

    def _end_empty_maps(self) -> bool:
        """Complete maps of nothing, whose conditions are met; whether there was one."""
        empty = [state for state in self._ready() if state.initial == 0]
        for state in empty:
            self.end(state)
        return bool(empty)

    def end(self, state: State) -> None:
        """Complete a step that has no task left."""
        outputs = [task.output for _, task in sorted(state.tasks.items())]
        state.status, state.output = "completed", outputs if state.step.is_map else outputs[0]

    def _queue(self, state: State, *, visible: bool) -> None:
        """Queue the next tasks of a step."""
        last = min(state.initial or 0, state.done + WINDOW)
        for index in range(len(state.tasks), last):
            state.tasks[index] = Task(self, state.step, index, visible=visible)

    def _fill_windows(self) -> None:
        """Queue more tasks of maps; those that follow the first ones start at once."""
        for state in self.states.values():
            if state.status == "started" and len(state.tasks) - state.done <= LOW:
                self._queue(state, visible=not state.step.start_delay)

    def _complete(self) -> None:
        if not self.remaining_steps:
            self.status = "completed"
            self.output = self.outputs(self.shape.leaves) or None

    def _fail(self, *failing: State) -> None:
        self.status = "failed"
        for state in self.states.values():
            self._end_tasks(state, "cancelled")
            if state.status == "started":
                state.status = "cancelled"
        for state in failing:
            state.status = "failed"

    # What becomes of tasks. What follows is left to settle().

    def complete(self, task: Task, output: Any) -> None:
        """Complete a task, and its step with it if it was the last."""
        task.status, task.output = "completed", output
        self._end_if_done(self.states[task.step.slug])

    def give_up(self, step: Step) -> None:
        """Decide what follows from tasks of a step that have failed and have no attempt left."""
        state = self.states[step.slug]
        if state.lost <= state.may_lose:
            self._end_if_done(state)
        elif step.exhausted == "fail":
            self.failing.append(state)
        else:
            cascades = step.exhausted == "skip-cascade"
            self.skip(state, "handler_failed", cascades=cascades)

    def _end_if_done(self, state: State) -> None:
        if state.is_done:
            self.end(state)
