"""Commits outcomes one by one after a batch failed, and fails tasks whose output cannot be stored.

An error that never passes fails the task at once. After an error that passes, the outcome is
committed again until the attempt's lease is about to end. From then on, and after an error that
does not pass by itself, the worker also tries whether the server would take a failure instead. If
so, the output is to blame, and the task fails. A server that is away, is locked or has lost the
queue would not take the failure either, so it costs no attempt, however long that lasts.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from blobstore import Stored
from pgflow_events.core.tasks import Outcome
from pgflow_events.postgres.calls import FIRST_DELAY, LONGEST_DELAY, complain
from pgflow_events.postgres.passing import Verdict, is_answer, passes, reason, report, verdict_of
from pgflow_events.telemetry import about

log = logging.getLogger("pgflow_events.completer")

LARGEST_FACTOR = 8.0

Commit = Callable[[Outcome, float], Awaitable[None]]
Rehearse = Callable[[Sequence[Outcome]], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Straggler:
    """An outcome, and what its commits so far have shown."""

    outcome: Outcome
    time_factor: float = 1.0
    """How many times the usual time the next commit may take."""
    delay: float = FIRST_DELAY
    """Seconds until the next commit, unless the lease ends sooner."""
    doubted: bool = False
    """Whether the server would take a failure instead of the output."""

    @property
    def is_late(self) -> bool:
        """Whether the lease of the attempt is about to end."""
        return trio.current_time() >= self.outcome.until

    @property
    def pause(self) -> float:
        """Seconds until the next commit: not beyond the lease, so that a failure can be stored."""
        if self.doubted:
            return FIRST_DELAY
        left = self.outcome.until - trio.current_time()
        return min(self.delay, left) if left > 0 else self.delay

    def after(self, error: Exception, *, doubted: bool = False) -> "Straggler":
        """The straggler after one more commit, which failed for a reason that passes."""
        complain(error)
        slow = isinstance(error, trio.TooSlowError)  # the output may be large, not the server slow
        return Straggler(
            self.outcome,
            min(2 * self.time_factor, LARGEST_FACTOR) if slow else self.time_factor,
            min(2 * self.delay, LONGEST_DELAY),
            doubted,
        )


class Stragglers:
    """Commits outcomes singly and one at a time, so that they use one connection.

    Args:
        commit: Commits an outcome; the second argument multiplies the time that it may take.
        rehearse: Finds out whether the server would take these outcomes now.
    """

    def __init__(self, commit: Commit, rehearse: Rehearse) -> None:
        self._commit = commit
        self._rehearse = rehearse
        self._one_at_a_time = trio.Lock()  # fair: each has a try before any has two

    async def settle(self, outcome: Outcome) -> None:
        """Commit an outcome, or the failure of its attempt; return when either is committed."""
        left: Straggler | None = Straggler(outcome)
        while left:
            async with self._one_at_a_time:
                left = await self._try(left)
            if left:
                await trio.sleep(left.pause)

    async def _try(self, straggler: Straggler) -> Straggler | None:
        """Commit the outcome once. Return what is left to commit; None if nothing is."""
        outcome = straggler.outcome
        try:
            await self._commit(outcome, straggler.time_factor)
        except Exception as error:  # noqa: BLE001 - whatever it is, see passing.py
            if passes(error) and not straggler.is_late:
                return straggler.after(error)
            if outcome.output is None:
                return self._leave(straggler, error)
            return await self._judge(straggler, error)
        return None

    async def _judge(self, straggler: Straggler, error: Exception) -> Straggler:
        """Find out whether the output is to blame; return what to commit next."""
        failure = _without_output(straggler.outcome, error)
        if verdict_of(error) is not Verdict.NEVER and not straggler.doubted:
            would_fail = await self._rehearse([failure])
            # After an error that passes, try once more: the server may just have come back.
            if passes(error) or not would_fail:
                return straggler.after(error, doubted=would_fail)
        task = straggler.outcome.task
        report(log, f"cannot store the output of {task}", error, extra=about(task))
        return Straggler(failure)

    def _leave(self, straggler: Straggler, error: Exception) -> Straggler | None:
        """Give up a failure that the server refuses: the lease will end. Keep it without answer."""
        if passes(error) and not is_answer(error):
            return straggler.after(error)
        task = straggler.outcome.task
        report(log, f"cannot settle {task}, its timeout will", error, extra=about(task))
        return None


def _without_output(outcome: Outcome, error: Exception) -> Outcome:
    """The failure of an attempt whose output cannot be stored."""
    told = reason(error).replace("\0", "")
    text = f"the output cannot be stored: {told}"
    if passes(error):
        text = f"the output could not be stored within {outcome.task.timeout} s: {told}"
    # A crash of the server may have undone uploads, which commit separately: another try may help.
    permanent = verdict_of(error) is Verdict.NEVER and not _is_upload(outcome)
    return outcome._replace(output=None, error=text, permanent=permanent)


def _is_upload(outcome: Outcome) -> bool:
    """Whether the chunks of the output were committed before the outcome."""
    return isinstance(outcome.output, Stored) and outcome.output.upload is not None
