"""What a worker does all the time, and goes on doing whatever happens."""

import logging
from collections.abc import Awaitable, Callable

import trio

from pgflow_events.passing import report

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 60.0  # seconds after an error
LONG = 120.0  # seconds after which the next error is taken for another matter

log = logging.getLogger("pgflow_events.worker")


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
