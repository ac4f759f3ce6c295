"""Logs standstills of the event loop, and counts them against the attempts that caused them."""

import logging
import sysconfig
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from itertools import dropwhile
from math import inf
from pathlib import Path
from time import monotonic
from traceback import FrameSummary, StackSummary
from types import TracebackType
from typing import NamedTuple

import trio

import blobstore
from pgflow_events.core.tasks import ClaimedTask
from pgflow_events.handlers.loop_watch import LIMIT, LoopWatch, Sight, Standstill
from pgflow_events.telemetry import about

QUIET = 60.0  # seconds until a handler may be named again
NOBODY = 1.0  # seconds of a standstill from which a warning is worth it that names no handler
DEEPEST = 15  # calls shown

ENGINE = Path(__file__).parents[1]
FOLDERS = ENGINE, Path(blobstore.__file__).parent, Path(trio.__file__).parent
OURS = tuple(f"{folder}/" for folder in FOLDERS)
LIBRARIES = (*OURS, *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")))

log = logging.getLogger("pgflow_events.handlers")

attempt_here: ContextVar[ClaimedTask | None] = ContextVar("attempt", default=None)
"""The attempt whose handler runs in this context."""

Open = Mapping[int, tuple[ClaimedTask, float]]
"""Attempts without an outcome, each with the time of its claim, by the address of its task."""


class Past(NamedTuple):
    """A standstill that is over."""

    ended: float
    seconds: float
    own: Mapping[int, float]
    """The part of the seconds that each attempt caused itself, by the address of its task."""

    def counts_not(self, task: ClaimedTask, claimed: float) -> float:
        """The seconds that do not count against an attempt claimed then."""
        return max(min(self.seconds, self.ended - claimed) - self.own.get(id(task), 0.0), 0.0)


class Limit:
    """A cancel scope for an attempt, kept in `scopes` while the block runs.

    This is a class because a generator would take twice as long, and each attempt has a limit.
    """

    __slots__ = ("_here", "_scope", "_scopes", "_task")

    def __init__(
        self, scopes: dict[int, trio.CancelScope], task: ClaimedTask, deadline: float
    ) -> None:
        self._scopes, self._task = scopes, task
        self._scope = trio.CancelScope(deadline=deadline)

    def __enter__(self) -> trio.CancelScope:
        self._here = attempt_here.set(self._task)
        self._scopes[id(self._task)] = self._scope
        return self._scope.__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool:
        del self._scopes[id(self._task)]
        attempt_here.reset(self._here)
        return self._scope.__exit__(exc_type, exc_val, exc_tb)


class Standstills:
    """Gives attempts the time back in which other code held up the loop.

    Args:
        attempts: The attempts without an outcome, and when each was claimed.
        hold: Called when some of these attempts may have lapsed during a standstill.
    """

    def __init__(self, attempts: Open, hold: Callable[[], object]) -> None:
        self._attempts, self._hold = attempts, hold
        self._past: list[Past] = []
        self._scopes: dict[int, trio.CancelScope] = {}
        self._warned: dict[str, float] = {}

    def watch(self) -> LoopWatch:
        """The watch, to be entered in the loop."""
        return LoopWatch(self._note, lambda: self._attempts)

    def limit(self, task: ClaimedTask, deadline: float) -> AbstractContextManager[trio.CancelScope]:
        """Cancel the block at a deadline that moves by the time the loop stands still."""
        return Limit(self._scopes, task, deadline + self.of(task))

    def cancel(self, task: ClaimedTask) -> None:
        """Cancel the block of this attempt now, if it is in one."""
        if scope := self._scopes.get(id(task)):
            scope.cancel()

    def of(self, task: ClaimedTask) -> float:
        """The seconds that do not count against an attempt without an outcome."""
        _, claimed = self._attempts.get(id(task), (task, inf))
        if not self._past or self._past[-1].ended <= claimed:  # true of nearly all attempts
            return 0.0
        return sum(past.counts_not(task, claimed) for past in self._past)

    def beside(self, task: ClaimedTask) -> str:
        """The addition to a message about the timeout."""
        seconds = self.of(task)
        return f" (without {seconds:.1f} s in which the loop stood still)" if seconds else ""

    def _note(self, standstill: Standstill) -> None:
        # Without the garbage collection, the standstill would have been too short to matter.
        innocent = standstill.seconds - standstill.collecting < LIMIT
        sights = [] if innocent else standstill.sights
        if standstill.over:
            self._extend(standstill.seconds, sights)
        self._warn(standstill, sights)

    def _extend(self, seconds: float, sights: Sequence[Sight]) -> None:
        seen = Counter(id(attempt) for sight in sights if (attempt := attempt_of(sight)))
        own = {address: seconds * times / len(sights) for address, times in seen.items()}
        past = Past(trio.current_time(), seconds, own)
        first = min((claimed for _, claimed in self._attempts.values()), default=inf)
        self._past = [*(each for each in self._past if each.ended > first), past]
        for address, scope in self._scopes.items():
            if address in self._attempts:  # others were given up
                scope.deadline += past.counts_not(*self._attempts[address])
        if any(claimed + task.timeout < past.ended for task, claimed in self._attempts.values()):
            self._hold()

    def _warn(self, standstill: Standstill, sights: Sequence[Sight]) -> None:
        sight = most_seen(sights)
        attempt = attempt_of(sight) if sight else None
        if attempt and id(attempt) not in self._attempts:
            return  # the attempt belongs to another worker in this process
        stack = sight.stack if sight else []
        own = own_calls(stack, OURS if attempt else LIBRARIES)
        name = f"{attempt.flow_slug}.{attempt.step_slug}" if attempt else ""
        silent_until = self._warned.get(name, -inf) + QUIET
        least = LIMIT if attempt or own else NOBODY
        if standstill.seconds >= least and monotonic() >= silent_until:
            self._warned[name] = monotonic()
            text = described(standstill, attempt, (own or stack)[-DEEPEST:])
            log.warning("%s", text, extra=about(attempt) if attempt else None)


def attempt_of(sight: Sight) -> ClaimedTask | None:
    """The attempt whose handler, or a task that it has started, was seen to run."""
    return sight.task.context.get(attempt_here) if sight.task else None


def most_seen(sights: Sequence[Sight]) -> Sight | None:
    """A sight of the task that was seen most."""
    (task, _), *_ = Counter(sight.task for sight in sights).most_common(1) or [(None, 0)]
    return next((sight for sight in sights if sight.task is task), None)


def own_calls(stack: Sequence[FrameSummary], others: tuple[str, ...]) -> Sequence[FrameSummary]:
    """The calls from the first one of the user's code on: without leading calls in `others`."""
    return list(dropwhile(lambda call: call.filename.startswith(others), stack))


def described(
    standstill: Standstill, attempt: ClaimedTask | None, stack: Sequence[FrameSummary]
) -> str:
    """The text of the warning, with the place in the code if it is known."""
    seconds = f"{standstill.seconds:.1f} s" + ("" if standstill.over else ", and goes on")
    where = f". It was here:\n{''.join(StackSummary.from_list(stack).format())}" if stack else ""
    where = where.rstrip()
    if attempt:
        return (
            f"{attempt}, held up the event loop for {seconds}: nothing else ran meanwhile. What"
            f" blocks or computes belongs in a plain function, which runs in a thread{where}"
        )
    cause = "the process was stopped, or a thread kept the interpreter to itself"
    if standstill.collecting > standstill.seconds / 2:
        cause = f"Python collected garbage for {standstill.collecting:.1f} s of these"
    return f"the event loop stood still for {seconds}" + (where or f": {cause}")
