"""What a handler may know about its attempt, and how often and how long a step is tried."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import trio


class Told:
    """What an attempt was told by its worker."""

    __slots__ = ("why",)

    def __init__(self) -> None:
        self.why: str | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler may know about its attempt. The node `Flow.context` gives it.

    Attributes:
        run_id: The id of the run.
        step: The slug of the step.
        attempt: The number of this attempt, counted from 1.
        log: A logger whose records name the run, the step and the attempt.
        cancel_scope: The scope in which the handler runs. Its `deadline` is the end of the step's
            timeout, on trio's clock. A handler in a thread calls
            `trio.from_thread.check_cancelled()` to learn that it was cancelled.
        resources: The user's own objects, such as an HTTP client or a pool, which the worker's
            ``resources`` opened. All tasks of the worker share them.
        index: In a map, the number of the element, counted from 0. In any other step it is 0. So
            run, step and index name the same work in each attempt.
    """

    run_id: UUID
    step: str
    attempt: int
    log: logging.Logger | logging.LoggerAdapter[logging.Logger]
    cancel_scope: trio.CancelScope
    resources: Mapping[str, Any]
    index: int = 0
    _told: Told = field(default_factory=Told, repr=False, compare=False)

    @property
    def stopped(self) -> str | None:
        """Why the worker has cancelled the handler before its timeout, for ``finally`` blocks.

        It is ``"run cancelled"``, ``"run failed"``, ``"run deleted"``, ``"step skipped"``, ``"lease
        lost"`` (another worker has the task) or ``"task settled"``. It is None while the handler
        may go on, after its timeout, and when the worker leaves. What a stopped handler returns or
        raises has no effect.
        """
        return self._told.why


@dataclass(frozen=True, slots=True)
class StepOptions:
    """How often and how long a step is tried, and how its output is stored.

    In a step, None stands for the flow's option. All options are whole numbers.

    Attributes:
        max_attempts: How many times the handler is tried in all; at least 1.
        base_delay: Seconds, at least 0. After failed attempt n the next one waits
            ``base_delay * 2 ** n`` seconds. With 0 it follows at once.
        timeout: Seconds that a handler may run before its attempt fails; at least 1.
        blob_threshold: Bytes, at least 0. An output whose encoding is larger is stored as a blob.
        keep_output: Seconds, at least 0, for which an output that is a blob is kept after the end
            of the run. None keeps it as long as the run.
    """

    max_attempts: int | None = None
    base_delay: int | None = None
    timeout: int | None = None
    blob_threshold: int | None = None
    keep_output: int | None = None
