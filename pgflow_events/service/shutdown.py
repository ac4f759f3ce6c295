"""How a worker leaves when a signal says so: in order, and in time whatever its handlers do."""

import logging
import signal
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, nullcontext, suppress
from types import FrameType
from typing import Self

import trio

from pgflow_events.service.last_resort import LastResort, end_now, overhearing

HANDLERS_END = 5.0  # seconds handlers that were cancelled have to end
LAST_RESORT = 20.0  # seconds after that limit, or the second signal, the process may still be there

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

log = logging.getLogger("pgflow_events.worker")


class Signals:
    """SIGTERM, SIGINT and SIGHUP, kept in their order until they are asked for. A context.

    SIGHUP says that the terminal is gone; `nohup` has it ignored, and so it stays then.
    """

    def __init__(self) -> None:
        self._names: deque[str] = deque()
        self.count = 0
        """How many have come."""
        self._tell: Callable[[int], None] = lambda _: None
        self._come = trio.Event()
        self._trio: trio.lowlevel.TrioToken | None = None

    @classmethod
    def kept(cls) -> Self:
        """Those of a process that is about to call `trio.run()`, and ends when that returns.

        One that comes too early is heeded, and one that comes when all is done changes nothing.
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
        # It runs between any two instructions of the main thread, and may call no more than this.
        self._names.append(signal.Signals(number).name)
        self.count += 1
        self._tell(self.count)
        if self._trio:
            with suppress(trio.RunFinishedError):
                self._trio.run_sync_soon(self._wake)

    def _wake(self) -> None:
        self._come.set()

    def tell(self, count: Callable[[int], None]) -> None:
        """Tell at once how many there have been, from now on also while the loop stands still.

        Args:
            count: Called within the handler of a signal: it may take no lock.
        """
        self._tell = count
        for number in range(self.count):
            count(number + 1)

    async def next(self) -> str:
        """The name of the next signal. For one task at a time."""
        self._trio = trio.lowlevel.current_trio_token()
        while not self._names:
            self._come = trio.Event()
            await self._come.wait()
        return self._names.popleft()


def _is_by_nohup(number: signal.Signals) -> bool:
    """Whether the signal is to change nothing, as `nohup` has said."""
    return number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN


class Shutdown:
    """The role that heeds these signals, from before the first connection to the very end.

    The first signal stops the claims; handlers have `limit` seconds to finish. The second one, or
    the end of these, cancels them. Those who do not heed that are named in the log, and the process
    ends without them: no task of trio, and no thread, can be ended from outside. So it does where a
    handler blocks the loop, and this role cannot run.

    Args:
        limit: Seconds handlers have to finish.
        stop: Claim no more.
        cancel: Cancel the handlers.
        leave: Release the tasks that have no outcome, and take leave of the peers.
        running: What is left of the handlers, as tasks of trio.
        name_running: Log which handlers run.
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
        """Heed signals within the block, those that are given or its own; or none at all."""
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
                (alone,) = group.exceptions  # what comes out of the block is no group by this
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
        """Say that the work is done: what is left to do takes little time."""
        if self._is_leaving:
            self._last_resort.within(LAST_RESORT)

    def _be_gone_soon(self, count: int) -> None:
        """Heed the first or the second signal, within its handler."""
        if count == 1:
            self._last_resort.within(self._limit + LAST_RESORT)
        elif count == 2:  # noqa: PLR2004 - further ones change nothing
            self._last_resort.within(LAST_RESORT)


def ignore_signals() -> None:
    """Let no signal end the process while Python ends, which does away with all handlers."""
    for number in NUMBERS:
        signal.signal(number, signal.SIG_IGN)
