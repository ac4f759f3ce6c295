"""Reports each attempt of a task to hooks, as a frozen record."""

import logging
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from uuid import UUID

log = logging.getLogger("pgflow_events.tasks")


class Attempt(Protocol):
    """The parts of an attempt that the log names."""

    @property
    def flow_slug(self) -> str: ...  # noqa: D102
    @property
    def run_id(self) -> UUID: ...  # noqa: D102
    @property
    def step_slug(self) -> str: ...  # noqa: D102
    @property
    def attempt(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """The end of an attempt in this worker."""

    flow_slug: str
    step_slug: str
    run_id: UUID
    task_index: int
    attempt: int
    outcome: Literal["completed", "failed", "stopped"]
    """`stopped`: the task is this worker's no more, and what the handler did has no effect."""
    seconds: float
    """The time from the claim to the encoded output or the error."""
    error: BaseException | None = None
    """The error that the handler raised. Its `str()` may take any time, or raise."""
    traceback: str = ""
    """The traceback of the error as text. A long one lacks its middle."""
    max_attempts: int | None = None
    """The step's `max_attempts` in this worker; None if the worker does not know the step."""
    is_element: bool = False
    """Whether the step is a map. Then `task_index` is the index of the element."""
    stopped: str | None = None
    """Why the attempt was stopped, such as `run cancelled`; see `Context.stopped`."""


Hook = Callable[[TaskEvent], None]
"""A function that the worker calls after each attempt, in the worker's thread. It must be quick,
and must not raise."""


def heeds(hook: Hook) -> bool:
    """Whether a hook does anything with an attempt that completed: the default one rarely does."""
    return hook is not log_task or log.isEnabledFor(logging.DEBUG)


def about(task: Attempt) -> dict[str, Any]:
    """The `extra` of a log record that is about an attempt."""
    return {
        "flow": task.flow_slug,
        "run_id": task.run_id,
        "step": task.step_slug,
        "attempt": task.attempt,
    }


class AttemptLog(logging.LoggerAdapter[logging.Logger]):
    """The logger of a handler. Its records name the attempt, in addition to their own `extra`."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the attempt to the given `extra`. Before Python 3.13, logging replaces it."""
        return msg, {**kwargs, "extra": {**(kwargs.get("extra") or {}), **(self.extra or {})}}


def log_task(event: TaskEvent) -> None:
    """The default hook. It logs failures as warnings with their traceback, and the rest as debug.

    An attempt that was stopped is logged as info.

    The log record has the fields `flow`, `run_id`, `step` and `attempt`.
    """
    quiet = logging.INFO if event.stopped else logging.DEBUG
    level = logging.WARNING if event.traceback else quiet
    if not log.isEnabledFor(level):
        return
    index = f"[{event.task_index}]" if event.is_element else ""
    step = f"{event.flow_slug}.{event.step_slug}{index}"
    why = f" ({event.stopped})" if event.stopped else ""
    message = f"{step} of run {event.run_id} {event.outcome}{why}"
    of = "" if event.max_attempts is None else f" of {event.max_attempts}"
    took = f" in {event.seconds:.3f} s (attempt {event.attempt}{of})"
    record = log.makeRecord(
        log.name, level, __file__, 0, message + took, (), None, log_task.__name__, about(event)
    )
    record.exc_text = event.traceback or None  # so that every formatter prints it as a traceback
    log.handle(record)
