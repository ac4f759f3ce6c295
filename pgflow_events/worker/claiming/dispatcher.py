"""Claims tasks for free slots, from a flow that was woken or is due. Knows no SQL."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf

import trio

from pgflow_events.core.tasks import Claim, ClaimedTask
from pgflow_events.worker.claiming.turns import Question, Turns

NOT_LOOKED = 0.5  # seconds: what a claim says that took all it saw, and did not look for more
HOLD = 1.0  # seconds without claims after a standstill, in which attempts may have lapsed
LAST_CLAIM = 5.0  # seconds for the claim under way at close(): the database may be down


@dataclass(slots=True, eq=False)
class Reservation:
    """The slots and bytes that a call to the database may claim for while it is under way."""

    qty: int
    max_bytes: int
    """Bytes of blobs that these tasks may load together."""
    question: Question | None
    """What is asked of the flow to claim from; None if no flow is asked."""
    is_commit: bool
    claim: Claim | None = None
    """The answer of the call; stays None if the call fails."""

    @property
    def slug(self) -> str | None:
        """The flow to claim from."""
        return self.question.slug if self.question else None


class Dispatcher:
    """Owns the slots and the timer.

    Args:
        turns: Tells which flow to claim from.
        claim: Claims tasks of a flow; takes its slug, their greatest number and the bytes that they
            may load together.
        start: Starts claimed tasks; returns at once.
        slots: How many tasks may run at a time.
        ahead: How many more tasks may wait in memory now.
        budget: Bytes of blobs that running tasks may load together. A task that loads more runs
            while no other task that loads blobs does.
    """

    def __init__(
        self,
        turns: Turns,
        claim: Callable[[str, int, int], Awaitable[Claim]],
        start: Callable[[list[ClaimedTask]], None],
        slots: int,
        budget: int,
        *,
        ahead: Callable[[], int] = lambda: 0,
    ) -> None:
        self._turns = turns
        self._claim = claim
        self._start = start
        self._free = slots
        self._ahead = ahead
        self._budget = self._free_bytes = budget
        self._left: dict[str, int] = {}
        """Flows whose first task was left because too few bytes were free, and what it needs."""
        self._reservations: set[Reservation] = set()
        self._timer = trio.CancelScope()
        self._claiming = trio.CancelScope()
        self._closing = False
        self._held_until = -inf
        self._poll_interval = self._poll_at = inf
        self._report_lapse, self.lapses = trio.open_memory_channel[None](1)
        """Tells the role that fails lapsed tasks when a call has found some."""
        self._lapsed: dict[str, None] = {}

    async def run(self) -> None:
        """Claim and start tasks, until closed and until the last reservation has ended."""
        while not self._closing or self._reservations:
            await self.until_free_to_claim()
            if self._can_claim() and (slug := self._turns.first_unasked()):
                await self._fill(slug)
            else:
                await self._wait()

    def _can_claim(self) -> bool:
        return self._open() > 0 and not self._closing

    async def _fill(self, slug: str) -> None:
        """Claim for the free slots."""
        with self.reserve(slug=slug) as reserved, trio.CancelScope() as self._claiming:
            reserved.claim = await self._claim(slug, reserved.qty, reserved.max_bytes)

    async def _wait(self) -> None:
        """Wait until a flow may be ready."""
        with trio.CancelScope(deadline=self._deadline()) as self._timer:
            await self._turns.bell.receive()
        if trio.current_time() >= self._poll_at:
            self._poll_at = trio.current_time() + self._poll_interval
            self.wake()

    def _deadline(self) -> float:
        return min(self._turns.next_due(), self._poll_at)

    def wake(self, slug: str | None = None) -> None:
        """Let the dispatcher claim from this flow, or from all, now or as soon as it can."""
        self._turns.wake(slug)

    def notify(self, slug: str) -> None:
        """Take a notification: this flow has tasks, for some worker."""
        self._turns.notify(slug)

    def poll_every(self, seconds: float) -> None:
        """Claim from all flows at least every `seconds`, while notifications do not arrive.

        Args:
            seconds: Infinite if they arrive.
        """
        if seconds != self._poll_interval:
            self._poll_interval, self._poll_at = seconds, trio.current_time() + seconds
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
        self._turns.ring()

    def take_lapsed(self) -> list[str]:
        """The flows in which calls have found lapsed tasks since this was called."""
        lapsed, self._lapsed = [*self._lapsed], {}
        return lapsed

    def free(self, tasks: Sequence[ClaimedTask]) -> None:
        """Take back the slots and bytes of tasks that have ended."""
        self._free += len(tasks)
        self._free_bytes += sum(task.input_bytes for task in tasks)

    def _waiting(self) -> int:
        """Bytes that the task needs that has waited longest for bytes; or 0."""
        return next(iter(self._left.values()), 0)

    def _open(self) -> int:
        """How many more tasks may be at hand."""
        return max(self._free + self._ahead(), 0)

    def _allowance(self) -> int:
        """Bytes that a claim may load now."""
        if self._runs_alone():
            return self._waiting()
        # While a task waits for bytes, smaller tasks may not take them.
        return max(self._free_bytes, 0) if self._waiting() <= self._free_bytes else 0

    def _runs_alone(self) -> bool:
        """Whether a task over the budget waits while no bytes are in use."""
        return self._waiting() > self._budget == self._free_bytes

    def _quantity(self, own: int | None) -> int:
        """How many tasks a claim may take now."""
        if self._closing or trio.current_time() < self._held_until:
            return 0
        # If another worker has claimed the large task meanwhile, the allowance for that task
        # would let in any number of other tasks.
        if self._runs_alone():
            return min(self._open(), 1)
        free = self._open()
        return free if own is None else max(min(own, free), free * 3 // 4)

    @contextmanager
    def reserve(self, own: int | None = None, slug: str | None = None) -> Iterator[Reservation]:
        """Set free slots and bytes aside for a call that may claim; then start what it claimed.

        Args:
            own: The slots that the tasks of a commit had. Such a call may take long, so it leaves
                some of the other free slots to the claims that come meanwhile.
            slug: The flow to claim from. None takes the one that has been ready for longest.
        """
        qty = self._quantity(own)
        slug = slug or (self._turns.first() if qty else None)
        question = self._turns.ask(slug) if slug else None
        reserved = Reservation(qty, self._allowance(), question, is_commit=own is not None)
        aside = max(self._free_bytes, 0)
        self._free -= reserved.qty
        self._free_bytes -= aside
        self._reservations.add(reserved)
        self._timer.deadline = self._deadline()
        try:
            yield reserved
        finally:
            self._reservations.remove(reserved)
            self._free += reserved.qty
            self._free_bytes += aside
            if reserved.claim:
                self._admit(reserved.claim)
            if question:
                self._learn(reserved, question)
            self._go_on()

    def _admit(self, claim: Claim) -> None:
        self._free -= len(claim.tasks)
        self._free_bytes -= sum(task.input_bytes for task in claim.tasks)
        if claim.tasks:
            self._start(claim.tasks)

    def _learn(self, reserved: Reservation, question: Question) -> None:
        """Take what an answer says of the flow that was asked."""
        self._turns.end(question)
        slug, claim = question.slug, reserved.claim
        if not claim:  # it is as ready as it was, and will be asked what is left
            self._left.pop(slug, None)
            return
        due = inf if claim.next_due is None else trio.current_time() + claim.next_due
        if claim.lapsed:
            self._report(slug)
            # The role that fails lapsed tasks wakes the flow afterwards.
            due = due if claim.next_due else inf
        in_vain = None if reserved.is_commit else not claim.tasks
        is_last_word = self._turns.answer(question, due, in_vain=in_vain)
        self._note_left(slug, claim.next_bytes or 0, is_last_word=is_last_word)
        # A call for a task over the budget takes one task, and leaves those that load nothing.
        if claim.next_bytes and reserved.max_bytes > self._budget and not claim.lapsed:
            self._turns.make_ready(slug)
        # Others may be due a moment later, as runs are that were delayed together.
        if question.is_due and claim.tasks and claim.next_due == NOT_LOOKED:
            self._turns.make_due(slug)

    def _report(self, slug: str) -> None:
        """Let the lapsed tasks of a flow be failed."""
        self._lapsed[slug] = None
        with suppress(trio.WouldBlock):  # it was told already
            self._report_lapse.send_nowait(None)

    def _note_left(self, slug: str, waiting: int, *, is_last_word: bool) -> None:
        """Note that a task waits for these bytes; 0 for none."""
        if not is_last_word:
            # Of two calls at once, the answer that arrives last may be the older one: it must not
            # hide a task that waits, or one that waits for less.
            known = self._left.get(slug, 0)
            waiting = min(waiting or known, known or waiting)
        if waiting:
            self._left[slug] = waiting
        else:
            self._left.pop(slug, None)

    def _go_on(self) -> None:
        """After a call, claim again if there is reason to."""
        if self._left and self._waiting() <= self._allowance():
            self._turns.make_ready(next(iter(self._left)))
        # run() may wait for the last reservation.
        if self._closing or (self._open() and self._turns.first_unasked()):
            self._turns.ring()
        self._timer.deadline = self._deadline()
