"""Commits outcomes one by one that could not be committed together, and fails those it cannot.

What fails for good fails its task at once. What fails for a reason that passes is committed again,
until the attempt's lease is about to end. After that, and where nothing passes by itself, it is the
output that is to blame if the server does not take it and would take a failure in its place: both
are tried. So a server that is away, or locked, or has lost the queue, costs no attempt however long
that takes: it would not take the failure either.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

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
    """An outcome, and how its commits went so far."""

    outcome: Outcome
    time_factor: float = 1.0
    """How many times the usual time the next commit may take."""
    delay: float = FIRST_DELAY
    """Seconds until then, if it is no other that decides."""
    doubted: bool = False
    """Whether the server would take a failure in its place."""

    @property
    def is_late(self) -> bool:
        """Whether the lease of the attempt is about to end."""
        return trio.current_time() >= self.outcome.until

    @property
    def pause(self) -> float:
        """Seconds until the next commit: not beyond the lease, so that what ends it is told."""
        if self.doubted:
            return FIRST_DELAY
        left = self.outcome.until - trio.current_time()
        return min(self.delay, left) if left > 0 else self.delay

    def after(self, error: Exception, *, doubted: bool = False) -> "Straggler":
        """The same after one more commit that failed, for a reason that passes."""
        complain(error)
        slow = isinstance(error, trio.TooSlowError)  # it may be the size of what is sent
        return Straggler(
            self.outcome,
            min(2 * self.time_factor, LARGEST_FACTOR) if slow else self.time_factor,
            min(2 * self.delay, LONGEST_DELAY),
            doubted,
        )


class Stragglers:
    """Commits outcomes, each by itself and one at a time, so that they take one connection.

    Args:
        commit: Commits one; the second argument multiplies the time it may take.
        rehearse: Whether the server would take these outcomes now.
    """

    def __init__(self, commit: Commit, rehearse: Rehearse) -> None:
        self._commit = commit
        self._rehearse = rehearse
        self._turn = trio.Lock()  # first come, first served: each has a try before any has two

    async def settle(self, outcome: Outcome) -> None:
        """Commit an outcome, or that its attempt has failed; return when one of the two is done."""
        left: Straggler | None = Straggler(outcome)
        while left:
            async with self._turn:
                left = await self._try(left)
            if left:
                await trio.sleep(left.pause)

    async def _try(self, straggler: Straggler) -> Straggler | None:
        """Commit it once; what is left to do."""
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
        """Find out whether it is the output that is to blame."""
        failure = _without_output(straggler.outcome, error)
        if verdict_of(error) is not Verdict.NEVER and not straggler.doubted:
            would_fail = await self._rehearse([failure])
            # Of what passes one try more: the server may have come back just now.
            if passes(error) or not would_fail:
                return straggler.after(error, doubted=would_fail)
        task = straggler.outcome.task
        report(log, f"cannot store the output of {task}", error, extra=about(task))
        return Straggler(failure)

    def _leave(self, straggler: Straggler, error: Exception) -> Straggler | None:
        """A failure that is not taken is one that its lease will end; unless nobody answers."""
        if passes(error) and not is_answer(error):
            return straggler.after(error)
        task = straggler.outcome.task
        report(log, f"cannot settle {task}, its timeout will", error, extra=about(task))
        return None


def _without_output(outcome: Outcome, error: Exception) -> Outcome:
    """That the attempt has failed, as its output cannot be stored."""
    told = reason(error).replace("\0", "")
    text = f"the output cannot be stored: {told}"
    if passes(error):
        text = f"the output could not be stored within {outcome.task.timeout} s: {told}"
    # What was uploaded in commits of their own may have been undone by a crash of the server.
    permanent = verdict_of(error) is Verdict.NEVER and not _is_upload(outcome)
    return replace(outcome, output=None, error=text, permanent=permanent)


def _is_upload(outcome: Outcome) -> bool:
    """Whether its chunks were committed before."""
    return isinstance(outcome.output, Stored) and outcome.output.upload is not None
