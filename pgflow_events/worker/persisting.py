"""What a worker does all the time, and goes on doing whatever happens."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from pgflow_events.postgres.passing import report

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 60.0  # seconds after an error
LONG = 120.0  # seconds after which the next error is taken for another matter

log = logging.getLogger("pgflow_events.worker")


class Start(trio.TaskStatus[None]):
    """Whether a role has started; it may say so again each time it begins again."""

    def __init__(self, task_status: trio.TaskStatus[None]) -> None:
        self._task_status = task_status
        self.is_over = False

    def started(self, value: None = None) -> None:
        """Be told that it has."""
        if not self.is_over:
            self.is_over = True
            self._task_status.started(value)


async def persist(role: Callable[[], Awaitable[object]], name: str) -> None:
    """Run a role to its end. After an error, say so and begin it again, with growing pauses.

    No error of one role may end the others: whatever it is, they have tasks at hand.

    Args:
        role: Called again each time; what it is to remember is not its own.
        name: What it does, for the log.
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
    """Like :func:`persist`, for a role whose errors before it has started are the caller's."""
    start = Start(task_status)
    again = partial(role, task_status=start)
    try:
        await again()
    except Exception as error:
        if not start.is_over:
            raise
        report(log, f"cannot {name}, trying again", error)
        await persist(again, name)
