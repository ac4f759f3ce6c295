"""Claims tasks for free slots: when woken, and when something falls due. Knows no SQL."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf

import trio

from pgflow_events.core.tasks import Claim, ClaimedTask

REST = 0.005  # seconds after a claim in vain: what a flood of forged notifications costs at most
HOLD = 1.0  # seconds without claims, after a standstill in which attempts may have lapsed
LAST_CLAIM = 5.0  # seconds a claim under way may still take once closed: the database may be down


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
        claim: Claims up to so many tasks, which load up to so many bytes.
        start: Starts claimed tasks; returns at once.
        slots: How many tasks may run at a time.
        budget: Bytes of blobs they may load together. A task that loads more runs while no
            other does that loads any.
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
        """Bytes that the first task loads that was left for want of them."""
        self._reservations: set[Reservation] = set()
        self._timer = trio.CancelScope()
        self._claiming = trio.CancelScope()
        self._due = inf
        self._closing = False
        self._held_until = -inf
        # A notification is a hint: any number of them while busy make one claim.
        self._ring, self._bell = trio.open_memory_channel[None](1)
        self._poll_interval = inf
        self._report_lapse, self.lapses = trio.open_memory_channel[None](1)
        """Tells whoever fails lapsed tasks that a call came upon some."""

    async def run(self) -> None:
        """Claim and start tasks, until closed and no call that claims is under way."""
        while not self._closing or self._reservations:
            await self.until_free_to_claim()
            if self._free and not self._closing and not await self._fill():
                await trio.sleep(REST)
            with trio.CancelScope(deadline=self._deadline()) as self._timer:
                await self._bell.receive()
            if self._timer.cancelled_caught:
                self._due = inf

    async def _fill(self) -> bool:
        """Claim for the free slots; whether there was anything."""
        with self.reserve() as reserved, trio.CancelScope() as self._claiming:
            reserved.claim = await self._claim(reserved.qty, reserved.max_bytes)
        return bool(reserved.claim and reserved.claim.tasks)

    def _deadline(self) -> float:
        return min(self._due, trio.current_time() + self._poll_interval)

    def wake(self) -> None:
        """Let the dispatcher claim, now or as soon as it can."""
        for reserved in self._reservations:
            reserved.woken = True
        with suppress(trio.WouldBlock):  # it is about to claim anyway
            self._ring.send_nowait(None)

    def poll_every(self, seconds: float) -> None:
        """Claim at least so often: a finite time while notifications do not arrive."""
        self._poll_interval = seconds
        self._timer.deadline = self._deadline()

    def hold(self) -> None:
        """Claim nothing for a moment: attempts may have lapsed whose outcomes are at hand."""
        self._held_until = trio.current_time() + HOLD

    async def until_free_to_claim(self) -> None:
        """Wait until what is at hand after :meth:`hold` is committed."""
        if trio.current_time() < self._held_until:
            await trio.sleep_until(self._held_until)

    def close(self) -> None:
        """Claim no more; what runs goes on."""
        self._closing = True
        self._claiming.deadline = trio.current_time() + LAST_CLAIM
        self.wake()

    def free(self, tasks: Sequence[ClaimedTask]) -> None:
        """Take back the slots and bytes of tasks that have ended."""
        self._free += len(tasks)
        self._free_bytes += sum(task.input_bytes for task in tasks)

    def _allowance(self) -> int:
        """Bytes that may be claimed now."""
        if self._runs_alone():
            return self._waiting
        # While a task waits for bytes, smaller ones of other flows may not take them.
        return max(self._free_bytes, 0) if self._waiting <= self._free_bytes else 0

    def _runs_alone(self) -> bool:
        """Whether a task waits that is over the budget, and it is its turn."""
        return self._waiting > self._budget == self._free_bytes

    def _quantity(self, own: int | None) -> int:
        """Tasks that may be claimed now."""
        if self._closing or trio.current_time() < self._held_until:
            return 0
        # Where somebody else has claimed the large one meanwhile, the allowance made for it
        # would let in any number of others.
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
            # A call that failed has looked at nothing; and run() may wait for the last one to end.
            if reserved.woken or not reserved.claim or self._closing or self._waiting_fits():
                self.wake()

    def _admit(self, reserved: Reservation, claim: Claim) -> None:
        self._free -= len(claim.tasks)
        self._free_bytes -= sum(task.input_bytes for task in claim.tasks)
        if claim.tasks:
            self._start(claim.tasks)
        if claim.lapsed:
            with suppress(trio.WouldBlock):  # they are about to be failed anyway
                self._report_lapse.send_nowait(None)
        due = trio.current_time() + claim.next_due if claim.next_due else inf
        waiting = claim.next_bytes or 0
        if reserved.alone:
            self._due, self._waiting = due, waiting
        else:
            # Of two calls at once, the answer that comes last may be the older one: it may not
            # put off what the other has seen. A claim too many costs little.
            self._due = min(due, self._due)
            self._waiting = min(waiting or self._waiting, self._waiting or waiting)
        # A call that asked for one task only has left those that load nothing.
        # What has lapsed is failed by somebody else, who wakes us then.
        visible = (claim.next_due == 0 or waiting) and not claim.lapsed
        if visible and (reserved.max_bytes > self._budget or waiting <= self._allowance()):
            self.wake()
        self._timer.deadline = self._deadline()
