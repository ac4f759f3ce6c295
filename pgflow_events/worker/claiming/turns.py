"""Which flow is asked for tasks next: one that was woken, or whose next message is due.

A flow that may have tasks stays ready until an answer says that it has none. That answer counts
only if nothing was said of the flow since its call began: neither a wake-up nor another answer.
Otherwise the answer may only bring forward the time at which the flow is asked again.

A claim that took all it saw says to ask again half a second later. What becomes visible until then
is notified, or was hidden for longer; only a claim that another session rolls back is seen so late.
A claim that was made because a message was due is followed by another one at once, if it took
something: the next message may be due a moment later, and only a claim in vain tells when that is.

A notification wakes all workers of a flow, and one of them gets the task. A worker that claimed in
vain is shy: it lets the others go first for a random time. So the worker that got the last task
gets the next one at once, unless it is busy; and notifications that come meanwhile cost one claim.
"""

import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import inf

import trio

PATIENCE = 0.5  # seconds for an answer, after which a ready flow is asked by another call too
REST = 0.005  # seconds after a claim in vain: limits the cost of forged notifications
SHY = 0.01  # seconds for each other worker of the flow: the longest time that a shy one waits


@dataclass(slots=True, eq=False)
class Turn:
    """The state of one flow."""

    slug: str
    due: float = inf
    """When it is ready, if it is not."""
    said: int = 0
    """How many wake-ups and answers there were."""
    is_woken: bool = True
    """Whether there was a wake-up since the last call that asks it began."""
    rests_until: float = -inf
    is_notified: bool = False
    """Whether `is_woken` is due to a notification."""
    is_due: bool = False
    """Whether it is ready because its time has come, and what is due may not be all taken."""
    is_shy: bool = False
    """Whether the last claim after a notification was in vain."""
    shy_until: float = -inf
    is_left_out: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A call that asks a flow for tasks."""

    slug: str
    said: int
    """`Turn.said` when the call began."""
    is_notified: bool
    """Whether it follows a notification."""
    is_due: bool
    """Whether it is made because the time of the flow has come."""
    patience_ends: float
    """When the flow is not left to this call any more: its answer may be lost."""


class Turns:
    """Owns the order of the flows, and the bell that rings when one is ready.

    Args:
        slugs: The flows. At first all of them are ready.
        crowd: Tells how many workers a flow has.
    """

    def __init__(self, slugs: Iterable[str], crowd: Callable[[str], int] = lambda _: 1) -> None:
        self._crowd = crowd
        self._turns = {slug: Turn(slug) for slug in slugs}
        self._ready = dict.fromkeys(self._turns)
        """The flows that may have tasks now; the first one has waited longest."""
        self._dues: list[tuple[float, str]] = []
        """A heap of times at which flows become ready. An entry may be out of date."""
        self._questions = set[Question]()
        """The calls under way: a few at a time."""
        # A wake-up is a hint: all that come while the bell is not listened to ring it once.
        self._ring, self.bell = trio.open_memory_channel[None](1)

    def ring(self) -> None:
        """Have the bell heard."""
        with suppress(trio.WouldBlock):  # it rings already
            self._ring.send_nowait(None)

    def wake(self, slug: str | None = None) -> None:
        """Note that this flow may have tasks, or that any may."""
        for turn in [self._turns[slug]] if slug else self._turns.values():
            turn.said += 1
            turn.is_woken = True
            self.make_ready(turn.slug)
        self.ring()

    def notify(self, slug: str) -> None:
        """Note that workers were notified of tasks of this flow."""
        turn = self._turns[slug]
        turn.said += 1
        turn.is_woken = turn.is_notified = True
        others = self._crowd(slug) - 1
        if not turn.is_shy or not others:
            self.make_ready(slug)
        elif slug not in self._ready:
            now = trio.current_time()
            if turn.shy_until <= now:
                turn.shy_until = now + random.uniform(0, SHY * others)  # noqa: S311 - no secret
            self._set(turn, max(min(turn.due, turn.shy_until), turn.rests_until))
        self.ring()

    def make_ready(self, slug: str) -> None:
        """Have this flow asked, as soon as it may be."""
        if slug not in self._ready:
            self._set(self._turns[slug], self._turns[slug].rests_until)

    def make_due(self, slug: str) -> None:
        """Have this flow asked again, because what is due may not have been all."""
        self.make_ready(slug)
        self._turns[slug].is_due = True

    def leave_out(self, slug: str) -> None:
        """Let this flow not be asked until :meth:`take_back`."""
        turn = self._turns[slug]
        self._set(turn, inf)
        turn.is_left_out = True

    def take_back(self, slug: str) -> None:
        """Let a flow be asked that was left out."""
        self._turns[slug].is_left_out = False
        self.wake(slug)

    def first(self) -> str | None:
        """The flow that has been ready for longest."""
        self._mature()
        return next(iter(self._ready), None)

    def first_unasked(self) -> str | None:
        """The same, without those of which calls under way will tell."""
        self._mature()
        now = trio.current_time()
        asked = {question.slug for question in self._questions if now < question.patience_ends}
        turns = map(self._turns.__getitem__, self._ready)
        return next((turn.slug for turn in turns if turn.is_woken or turn.slug not in asked), None)

    def next_due(self) -> float:
        """When to look again: a flow becomes ready, or a call has not answered in time."""
        self._mature()
        now = trio.current_time()
        ends = [each.patience_ends for each in self._questions if now < each.patience_ends]
        return min(self._dues[0][0] if self._dues else inf, *ends, inf)

    def ask(self, slug: str) -> Question:
        """Begin a call that asks this flow for tasks. The others come first after it."""
        turn = self._turns[slug]
        patience_ends = trio.current_time() + PATIENCE
        question = Question(slug, turn.said, turn.is_notified, turn.is_due, patience_ends)
        self._questions.add(question)
        turn.is_woken = turn.is_notified = turn.is_due = False
        if slug in self._ready:
            del self._ready[slug]
            self._ready[slug] = None
        return question

    def end(self, question: Question) -> None:
        """End a call; without an answer, its flow is as ready as it was."""
        self._questions.remove(question)

    def answer(self, question: Question, due: float, *, in_vain: bool | None) -> bool:
        """Take the answer of a call. Return whether nothing else was said meanwhile.

        Args:
            question: The call.
            due: When the flow is to be asked again. A time that is over: it may have tasks now.
            in_vain: Whether the call claimed nothing; None if it was made to settle.
        """
        turn = self._turns[question.slug]
        is_last_word = turn.said == question.said
        turn.said += 1
        if in_vain:
            turn.rests_until = trio.current_time() + REST
            turn.is_shy = turn.is_shy or question.is_notified
        elif in_vain is False:
            turn.is_shy = False
        if not is_last_word:
            due = min(due, -inf if turn.slug in self._ready else turn.due)
        self._set(turn, max(due, turn.rests_until))
        return is_last_word

    def _set(self, turn: Turn, due: float) -> None:
        """Let a flow be ready from this time on."""
        if turn.is_left_out:
            return
        if due <= trio.current_time():
            turn.due = inf
            self._ready.setdefault(turn.slug)
            return
        self._ready.pop(turn.slug, None)
        if due != turn.due:
            turn.due = due
            if due < inf:
                heappush(self._dues, (due, turn.slug))
        if len(self._dues) > 2 * len(self._turns) + 100:
            self._dues = [(turn.due, turn.slug) for turn in self._turns.values() if turn.due < inf]
            heapify(self._dues)

    def _mature(self) -> None:
        """Make those ready whose time has come, and drop entries that are out of date."""
        now = trio.current_time()
        while self._dues:
            due, slug = self._dues[0]
            turn = self._turns[slug]
            if turn.due == due and due > now:
                return
            heappop(self._dues)
            if turn.due == due:
                self._set(turn, due)
                turn.is_due = True
