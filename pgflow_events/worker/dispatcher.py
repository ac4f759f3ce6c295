"""Claims tasks for free slots: on each wake-up, and when a message becomes due. Knows no SQL."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf

import trio

from pgflow_events.core.tasks import Claim, ClaimedTask

REST = 0.005  # seconds after a claim that found nothing: limits the cost of forged notifications
HOLD = 1.0  # seconds without claims after a standstill, in which attempts may have lapsed
LAST_CLAIM = 5.0  # seconds for the claim under way at close(): the database may be down


@dataclass(slots=True, eq=False)
class Reservation:
    """The slots and bytes that a call to the database may claim for while it is under way."""

    qty: int
    max_bytes: int
    """Bytes of blobs that these tasks may load together."""
    alone: bool
    """Whether no other call held a reservation at any time meanwhile."""
    woken: bool = False
    """Whether there was a wake-up meanwhile, for tasks that the call may not have seen."""
    claim: Claim | None = None
    """The answer of the call; stays None if the call fails."""


class Dispatcher:
    """Owns the slots and the timer.

    Args:
        claim: Claims tasks; takes their greatest number and the bytes that they may load together.
        start: Starts claimed tasks; returns at once.
        slots: How many tasks may run at a time.
        budget: Bytes of blobs that running tasks may load together. A task that loads more runs
            while no other task that loads blobs does.
    """

    def __init__(
        self,
        claim: Callable[[int, int], Awaitable[Claim]],
        start: Callable[[list[ClaimedTask]], None],
        slots: int,
        budget: int,
    ) -> None:
        self._claim = claim
        self._start = start
        self._free = slots
        self._budget = self._free_bytes = budget
        self._waiting = 0
        """Bytes that the first task needs that was left because too few were free; or 0."""
        self._reservations: set[Reservation] = set()
        self._timer = trio.CancelScope()
        self._claiming = trio.CancelScope()
        self._due = inf
        self._closing = False
        self._held_until = -inf
        # A notification is a hint: all that arrive during a claim lead to one more claim.
        self._button, self._bell = trio.open_memory_channel[None](1)
        self._poll_interval = inf
        self._report_lapse, self.lapses = trio.open_memory_channel[None](1)
        """Tells the role that fails lapsed tasks when a call has found some."""

    async def run(self) -> None:
        """Claim and start tasks, until closed and until the last reservation has ended."""
        while not self._closing or self._reservations:
            await self.until_free_to_claim()
            if self._free and not self._closing and not await self._fill():
                await trio.sleep(REST)
            with trio.CancelScope(deadline=self._deadline()) as self._timer:
                await self._bell.receive()
            if self._timer.cancelled_caught:
                self._due = inf

    async def _fill(self) -> bool:
        """Claim for the free slots. Return whether a task was claimed."""
        with self.reserve() as reserved, trio.CancelScope() as self._claiming:
            reserved.claim = await self._claim(reserved.qty, reserved.max_bytes)
        return bool(reserved.claim and reserved.claim.tasks)

    def _deadline(self) -> float:
        return min(self._due, trio.current_time() + self._poll_interval)

    def wake(self) -> None:
        """Let the dispatcher claim, now or as soon as it can."""
        for reserved in self._reservations:
            reserved.woken = True
        with suppress(trio.WouldBlock):  # a claim is due already
            self._button.send_nowait(None)

    def poll_every(self, seconds: float) -> None:
        """Claim at least every `seconds`: finite while notifications do not arrive."""
        self._poll_interval = seconds
        self._timer.deadline = self._deadline()

    def hold(self) -> None:
        """Claim nothing for a moment: the outcomes at hand may be of attempts that have lapsed."""
        self._held_until = trio.current_time() + HOLD

    async def until_free_to_claim(self) -> None:
        """Wait until a :meth:`hold` is over, during which outcomes at hand are committed."""
        if trio.current_time() < self._held_until:
            await trio.sleep_until(self._held_until)

    def close(self) -> None:
        """Claim no more tasks; running tasks go on."""
        self._closing = True
        self._claiming.deadline = trio.current_time() + LAST_CLAIM
        self.wake()

    def free(self, tasks: Sequence[ClaimedTask]) -> None:
        """Take back the slots and bytes of tasks that have ended."""
        self._free += len(tasks)
        self._free_bytes += sum(task.input_bytes for task in tasks)

    def _allowance(self) -> int:
        """Bytes that a claim may load now."""
        if self._runs_alone():
            return self._waiting
        # While a task waits for bytes, smaller tasks of other flows may not take them.
        return max(self._free_bytes, 0) if self._waiting <= self._free_bytes else 0

    def _runs_alone(self) -> bool:
        """Whether a task over the budget waits while no bytes are in use."""
        return self._waiting > self._budget == self._free_bytes

    def _quantity(self, own: int | None) -> int:
        """How many tasks a claim may take now."""
        if self._closing or trio.current_time() < self._held_until:
            return 0
        # If another worker has claimed the large task meanwhile, the allowance for that task
        # would let in any number of other tasks.
        if self._runs_alone():
            return min(self._free, 1)
        return self._free if own is None else max(min(own, self._free), self._free * 3 // 4)

    def _waiting_fits(self) -> bool:
        return 0 < self._waiting <= self._allowance()

    @contextmanager
    def reserve(self, own: int | None = None) -> Iterator[Reservation]:
        """Set free slots and bytes aside for a call that may claim; then start what it claimed.

        Args:
            own: The slots that the tasks of a commit had. Such a call may take long, so it leaves
                some of the other free slots to the claims that come meanwhile.
        """
        reserved = Reservation(self._quantity(own), self._allowance(), alone=not self._reservations)
        aside = max(self._free_bytes, 0)
        self._free -= reserved.qty
        self._free_bytes -= aside
        for other in self._reservations:
            other.alone = False
        self._reservations.add(reserved)
        try:
            yield reserved
        finally:
            self._reservations.remove(reserved)
            self._free += reserved.qty
            self._free_bytes += aside
            if reserved.claim:
                self._admit(reserved, reserved.claim)
            # A call that failed has seen no message; and run() may wait for the last reservation.
            if reserved.woken or not reserved.claim or self._closing or self._waiting_fits():
                self.wake()

    def _admit(self, reserved: Reservation, claim: Claim) -> None:
        self._free -= len(claim.tasks)
        self._free_bytes -= sum(task.input_bytes for task in claim.tasks)
        if claim.tasks:
            self._start(claim.tasks)
        if claim.lapsed:
            with suppress(trio.WouldBlock):  # they are about to be failed already
                self._report_lapse.send_nowait(None)
        due = trio.current_time() + claim.next_due if claim.next_due else inf
        waiting = claim.next_bytes or 0
        if reserved.alone:
            self._due, self._waiting = due, waiting
        else:
            # Of two calls at once, the answer that arrives last may be the older one: it must not
            # put off a claim that the other answer asks for. A superfluous claim costs little.
            self._due = min(due, self._due)
            self._waiting = min(waiting or self._waiting, self._waiting or waiting)
        # A call for a task over the budget takes one task, and leaves those that load nothing.
        # Lapsed tasks are failed by another role, which then wakes the dispatcher.
        visible = (claim.next_due == 0 or waiting) and not claim.lapsed
        if visible and (reserved.max_bytes > self._budget or waiting <= self._allowance()):
            self.wake()
        self._timer.deadline = self._deadline()
