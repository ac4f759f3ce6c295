"""How a worker leaves when a signal says so: in order, and in time whatever its handlers do."""

import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from types import TracebackType
from typing import NoReturn, Self

import trio

GRACE = 5.0  # seconds handlers that were cancelled have to end
LAST_RESORT = 20.0  # seconds after that limit, or the second signal, the process may still be there

log = logging.getLogger("pgflow_events.worker")


class Shutdown:
    """The role that heeds SIGTERM and SIGINT. A context, which is left when all is done.

    The first signal stops the claims; handlers have `limit` seconds to finish. The second one, or
    the end of these, cancels them. Those who do not heed that are named in the log, and the process
    ends without them: no task of trio, and no thread, can be ended from outside.

    Args:
        limit: Seconds handlers have to finish.
        stop: Claim no more.
        cancel: Cancel the handlers.
        give_back: Release the tasks that have no outcome.
        running: What is left of the handlers, as tasks of trio.
        name_running: Log which handlers run.
    """

    def __init__(
        self,
        limit: float,
        *,
        stop: Callable[[], None],
        cancel: Callable[[], None],
        give_back: Callable[[], Awaitable[None]],
        running: Callable[[], Collection[object]],
        name_running: Callable[[], None],
    ) -> None:
        self._limit = limit
        self._stop, self._cancel, self._give_back = stop, cancel, give_back
        self._running, self._name_running = running, name_running
        self._timer: threading.Timer | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if self._timer:
            self._timer.cancel()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Wait for signals. Cancelled by the worker when it has nothing left to do."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            task_status.started()
            name = await next_name(received)
            log.info("%s: finishing what is at hand, for up to %g s", name, self._limit)
            self._be_gone_in(self._limit + LAST_RESORT)
            self._stop()
            with trio.move_on_after(self._limit) as scope:
                log.warning("%s again: leaving at once", await next_name(received))
            if scope.cancelled_caught:
                log.warning("not done within %g s: cancelling the handlers", self._limit)
            self._be_gone_in(LAST_RESORT)
            self._cancel()
            await trio.sleep(GRACE)
            if self._running():
                await self._give_back()
                end_now()
            await trio.sleep_forever()

    def _be_gone_in(self, seconds: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = end_within(seconds, self._name_running)


async def next_name(received: AsyncIterator[int]) -> str:
    """The name of the next signal."""
    return signal.Signals(await anext(received)).name


def end_within(seconds: float, last_words: Callable[[], None] = lambda: None) -> threading.Timer:
    """End the process in so many seconds, whatever its other threads do; it can be cancelled."""

    def end() -> None:
        last_words()
        end_now()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    return timer


def end_now() -> NoReturn:
    """End the process with exit code 1, without waiting for anything."""
    log.error("something does not end: leaving without it")
    os._exit(1)
