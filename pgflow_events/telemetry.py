"""What a worker tells of its tasks: one frozen record for each, given to every hook."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

log = logging.getLogger("pgflow_events.tasks")


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


Hook = Callable[[TaskEvent], None]
"""Called in the worker's thread right after each attempt: it must be quick and not raise."""


def log_task(event: TaskEvent) -> None:
    """The default hook: failures at level warning with their traceback, the rest at debug."""
    log.log(
        logging.WARNING if event.traceback else logging.DEBUG,
        "%s.%s of run %s %s in %.3f s (attempt %d)%s",
        event.flow_slug,
        event.step_slug,
        event.run_id,
        event.outcome,
        event.seconds,
        event.attempt,
        event.traceback and f"\n{event.traceback}",
    )
