"""Runs the roles of a worker, and starts them again after errors."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from pgflow_events.postgres.passing import report

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 60.0  # seconds after an error
LONG = 120.0  # seconds without an error after which the pauses start afresh

log = logging.getLogger("pgflow_events.worker")


class Start(trio.TaskStatus[None]):
    """Records that a role has started. A role that begins again may report it again."""

    def __init__(self, task_status: trio.TaskStatus[None]) -> None:
        self._task_status = task_status
        self.is_over = False

    def started(self, value: None = None) -> None:
        """Record it, the first time."""
        if not self.is_over:
            self.is_over = True
            self._task_status.started(value)


async def persist(role: Callable[[], Awaitable[object]], name: str) -> None:
    """Run a role to its end. After an error, log it and begin again, with growing pauses.

    An error of one role must not end the others, which have tasks at hand.

    Args:
        role: Called again each time; it keeps its state elsewhere.
        name: What the role does, for the log.
    """
    pause = FIRST_PAUSE
    while True:
        began = trio.current_time()
        try:
            await role()
        except Exception as error:  # noqa: BLE001 - it is logged
            if trio.current_time() - began > LONG:
                pause = FIRST_PAUSE
            report(log, f"cannot {name}, trying again in {pause:g} s", error)
        else:
            return
        await trio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


async def persist_once_started(
    role: Callable[..., Awaitable[object]],
    name: str,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Like :func:`persist`, but raise the errors that come before the role has started."""
    start = Start(task_status)
    again = partial(role, task_status=start)
    try:
        await again()
    except Exception as error:
        if not start.is_over:
            raise
        report(log, f"cannot {name}, trying again", error)
        await persist(again, name)
