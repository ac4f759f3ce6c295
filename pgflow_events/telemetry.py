"""What a worker tells of its tasks: one frozen record for each, given to every hook."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from traceback import format_exception
from typing import Literal
from uuid import UUID

log = logging.getLogger("pgflow_events.tasks")

LONGEST_TRACEBACK = 20_000  # characters


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


Hook = Callable[[TaskEvent], None]
"""Called in the worker's thread right after each attempt: it must be quick and not raise."""


def log_task(event: TaskEvent) -> None:
    """The default hook: failures at level warning with their traceback, the rest at debug."""
    log.log(
        logging.WARNING if event.error else logging.DEBUG,
        "%s.%s of run %s %s in %.3f s (attempt %d)%s",
        event.flow_slug,
        event.step_slug,
        event.run_id,
        event.outcome,
        event.seconds,
        event.attempt,
        f"\n{loggable(event.error)}" if event.error else "",
    )


def loggable(error: BaseException) -> str:
    """Its traceback, without the middle if it is long: a page may stand in an error's message."""
    text = "".join(format_exception(error)).rstrip()
    if len(text) > LONGEST_TRACEBACK:
        half = LONGEST_TRACEBACK // 2
        text = f"{text[:half]}\n[…]\n{text[-half:]}"
    return text.encode("utf-8", "replace").decode()
