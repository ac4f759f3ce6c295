"""Stops a worker on a signal: in order, and within a limit whatever its handlers do."""

import logging
import signal
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, nullcontext, suppress
from types import FrameType
from typing import Self

import trio

from pgflow_events.service.last_resort import LastResort, end_now, overhearing

HANDLERS_END = 5.0  # seconds that cancelled handlers have to end
UNTIL_LAST_RESORT = 20.0  # seconds after the limit, or the second signal

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

log = logging.getLogger("pgflow_events.worker")


class Signals:
    """Collects SIGTERM, SIGINT and SIGHUP, in order, until :meth:`next` returns them. A context.

    SIGHUP means that the terminal is gone. Under `nohup` it is ignored, and stays ignored.
    """

    def __init__(self) -> None:
        self._names: deque[str] = deque()
        self.count = 0
        """How many signals have come."""
        self._tell: Callable[[int], None] = lambda _: None
        self._come = trio.Event()
        self._trio: trio.lowlevel.TrioToken | None = None

    @classmethod
    def kept(cls) -> Self:
        """The signals of a process that is about to call `trio.run()`, and ends after it.

        An early signal is not lost, and one after the work is done changes nothing.
        """
        return cls().__enter__()

    def __enter__(self) -> Self:
        heeded = [number for number in NUMBERS if not _is_by_nohup(number)]
        self._before = {number: signal.signal(number, self._heed) for number in heeded}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heed(self, number: int, _: FrameType | None) -> None:
        # It runs between any two instructions of the main thread, so it must call no more.
        self._names.append(signal.Signals(number).name)
        self.count += 1
        self._tell(self.count)
        if self._trio:
            with suppress(trio.RunFinishedError):
                self._trio.run_sync_soon(self._wake)

    def _wake(self) -> None:
        self._come.set()

    def tell(self, count: Callable[[int], None]) -> None:
        """Report the number of each signal, past and future, also while the loop stands still.

        Args:
            count: Called with the number, within the signal handler: it must not take a lock.
        """
        self._tell = count
        for number in range(self.count):
            count(number + 1)

    async def next(self) -> str:
        """The name of the next signal. Only one task may wait at a time."""
        self._trio = trio.lowlevel.current_trio_token()
        while not self._names:
            self._come = trio.Event()
            await self._come.wait()
        return self._names.popleft()


def _is_by_nohup(number: signal.Signals) -> bool:
    """Whether the signal is ignored because of `nohup`."""
    return number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN


class Shutdown:
    """The role that heeds signals, from before the first connection to the very end.

    The first signal stops the claims; handlers then have `limit` seconds to finish. The second
    signal, or the end of these seconds, cancels the handlers. A handler that ignores this is named
    in the log, and the process ends without it: neither a trio task nor a thread can be ended from
    outside. The process also ends if a handler blocks the loop, so that this role cannot run.

    Args:
        limit: Seconds that handlers have to finish.
        stop: Stops the claims.
        cancel: Cancels the handlers.
        leave: Releases the tasks that have no outcome, and takes leave of the peers.
        running: Returns the trio tasks of handlers that have not ended.
        name_running: Logs which handlers run.
    """

    def __init__(
        self,
        limit: float,
        *,
        stop: Callable[[], None],
        cancel: Callable[[], None],
        leave: Callable[[], Awaitable[None]],
        running: Callable[[], Collection[object]],
        name_running: Callable[[], None],
    ) -> None:
        self._limit = limit
        self._stop, self._cancel, self._leave = stop, cancel, leave
        self._running = running
        self._last_resort = LastResort(name_running)
        self._is_leaving = False

    @asynccontextmanager
    async def heeding(self, signals: bool | Signals) -> AsyncIterator[None]:
        """Heed signals within the block: the given ones, or its own (True), or none (False)."""
        if not signals:
            yield
            return
        with (
            Signals() if signals is True else nullcontext(signals) as received,
            self._last_resort,
            overhearing(NUMBERS, self._be_gone_soon, received.count),
        ):
            received.tell(self._be_gone_soon)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._heed, received)
                    yield
                    nursery.cancel_scope.cancel()
            except BaseExceptionGroup as group:
                if len(group.exceptions) > 1:
                    raise
                (alone,) = group.exceptions  # the nursery has wrapped it in a group
                raise alone from alone.__cause__

    async def _heed(self, signals: Signals) -> None:
        name = await signals.next()
        log.info("%s: finishing the tasks at hand, for up to %g s", name, self._limit)
        self._is_leaving = True
        self._stop()
        with trio.move_on_after(self._limit) as scope:
            log.warning("%s again: leaving at once", await signals.next())
        if scope.cancelled_caught:
            log.warning("not done within %g s: cancelling the handlers", self._limit)
        self._cancel()
        await trio.sleep(HANDLERS_END)
        if self._running():
            await self._leave()
            end_now()

    def expect_end(self) -> None:
        """Limit the time from here on, because the work is done."""
        if self._is_leaving:
            self._last_resort.within(UNTIL_LAST_RESORT)

    def _be_gone_soon(self, count: int) -> None:
        """Set the deadline of the process, within the handler of the first or second signal."""
        if count == 1:
            self._last_resort.within(self._limit + UNTIL_LAST_RESORT)
        elif count == 2:  # noqa: PLR2004 - further ones change nothing
            self._last_resort.within(UNTIL_LAST_RESORT)


def ignore_signals() -> None:
    """Ignore signals while Python ends: it removes their handlers, so one would end the process."""
    for number in NUMBERS:
        signal.signal(number, signal.SIG_IGN)
