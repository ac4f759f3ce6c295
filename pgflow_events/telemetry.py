"""What a worker tells of its tasks: one frozen record for each, given to every hook."""

import logging
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from uuid import UUID

log = logging.getLogger("pgflow_events.tasks")


class Attempt(Protocol):
    """An attempt of a task, as far as the log names it."""

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
    """An attempt of a task that has ended in this worker."""

    flow_slug: str
    step_slug: str
    run_id: UUID
    task_index: int
    attempt: int
    outcome: Literal["completed", "failed"]
    seconds: float
    """From the claim to the encoded output, the handler's time included."""
    error: BaseException | None = None
    """What the handler raised, as it is: to ask for its text may take any time, or raise."""
    traceback: str = ""
    """That of the error, as text, without the middle if it is long."""
    max_attempts: int | None = None
    """How often the worker's flow tries the step in all; None if it does not know the step."""


Hook = Callable[[TaskEvent], None]
"""Called in the worker's thread right after each attempt: it must be quick and not raise."""


def about(task: Attempt) -> dict[str, Any]:
    """The attempt that a record is about, as its `extra`."""
    return {
        "flow": task.flow_slug,
        "run_id": task.run_id,
        "step": task.step_slug,
        "attempt": task.attempt,
    }


class AttemptLog(logging.LoggerAdapter[logging.Logger]):
    """The logger of a handler: its records name the attempt too, whatever `extra` they have."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the attempt to what is given as `extra`. Before Python 3.13, nobody does."""
        return msg, {**kwargs, "extra": {**(kwargs.get("extra") or {}), **(self.extra or {})}}


def log_task(event: TaskEvent) -> None:
    """The default hook: failures at level warning with their traceback, the rest at debug.

    The record has the fields `flow`, `run_id`, `step` and `attempt`.
    """
    level = logging.WARNING if event.traceback else logging.DEBUG
    if not log.isEnabledFor(level):
        return
    message = f"{event.flow_slug}.{event.step_slug} of run {event.run_id} {event.outcome}"
    of = "" if event.max_attempts is None else f" of {event.max_attempts}"
    took = f" in {event.seconds:.3f} s (attempt {event.attempt}{of})"
    record = log.makeRecord(
        log.name, level, __file__, 0, message + took, (), None, log_task.__name__, about(event)
    )
    record.exc_text = event.traceback or None  # so every formatter sets it apart, as its own
    log.handle(record)
