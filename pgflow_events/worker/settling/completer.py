"""Commits outcomes in batches: those that gather during a commit go into the next one together."""

import logging
from collections.abc import Awaitable, Callable, Sequence

import trio

from blobstore import Inline, Stored
from pgflow_events.core.tasks import Claim, Outcome
from pgflow_events.postgres.calls import FIRST_DELAY, LONGEST_DELAY, complain
from pgflow_events.postgres.passing import passes, reason
from pgflow_events.telemetry import about
from pgflow_events.worker.claiming.dispatcher import Dispatcher
from pgflow_events.worker.settling.stragglers import Rehearse, Stragglers

log = logging.getLogger("pgflow_events.completer")

LANES = 2  # commits under way at a time, if there are enough outcomes for each
FEWEST_OUTCOMES = 64  # are enough: a call alone costs as much as some 20 tasks
MOST_OUTCOMES = 500
MOST_BYTES = 64 * 1024 * 1024
GATHER = 1.0  # seconds that a small commit delays the next one, so that outcomes gather

Complete = Callable[[Sequence[Outcome], str | None, int, int, float], Awaitable[Claim]]

TOO_LATE = (
    ": the run has ended meanwhile, as it does when another step fails, or another attempt has"
    " the task; this outcome is dropped"
)


class Completer:
    """Owns the outcomes that are not committed yet.

    Args:
        dispatcher: Gets the slots back, and the tasks that a commit claimed.
        slots: How many tasks are at hand at most. A commit takes at most half of them, so that
            handlers go on while the server works.
        complete: Settles outcomes, and claims tasks of a flow up to a number and a size, in one
            commit that is tried once; the last argument multiplies the time that it may take.
        rehearse: Finds out whether the server would settle these outcomes now.
        notify: Sends the notifications that a commit left owed (flows with queued tasks, flows
            with ended runs).
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        slots: int,
        complete: Complete,
        rehearse: Rehearse,
        notify: Callable[[list[str], list[str]], Awaitable[None]],
    ) -> None:
        self._dispatcher = dispatcher
        self._complete = complete
        self._rehearse = rehearse
        self._notify = notify
        self._stragglers = Stragglers(lambda one, factor: self._settle([one], factor), rehearse)
        self._most = min(max(slots // LANES, FEWEST_OUTCOMES), MOST_OUTCOMES)
        self._inlet, self._outcomes = trio.open_memory_channel[Outcome](MOST_OUTCOMES)
        self._one_at_a_time = trio.Lock()
        self.handed_over = 0
        """Tasks that came with a commit, and so needed no claim of their own."""

    async def settle(self, outcome: Outcome) -> None:
        """Take an outcome, to be committed soon."""
        try:  # without a turn of the event loop, as the task is about to end
            self._inlet.send_nowait(outcome)
        except trio.WouldBlock:
            await self._inlet.send(outcome)

    def close(self) -> None:
        """Take no more outcomes; :meth:`run` returns when those at hand are committed."""
        self._inlet.close()

    async def run(self) -> None:
        """Commit outcomes as they come, until closed."""
        async with trio.open_nursery() as self._commits:
            for _ in range(LANES):
                self._commits.start_soon(self._run_lane)

    async def _run_lane(self) -> None:
        while True:
            async with self._one_at_a_time:
                try:
                    batch = self._gather(await self._outcomes.receive())
                except trio.EndOfChannel:
                    return
                self._dispatcher.free([outcome.task for outcome in batch])
                done = trio.Event()
                self._commits.start_soon(self._commit, batch, done)
                if len(batch) < self._most:  # let outcomes gather meanwhile
                    with trio.move_on_after(GATHER):
                        await done.wait()
            await done.wait()

    def _gather(self, first: Outcome) -> list[Outcome]:
        batch, size = [first], _stored_size(first)
        while len(batch) < self._most and size < MOST_BYTES:
            try:
                batch.append(self._outcomes.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                break
            size += _stored_size(batch[-1])
        return batch

    async def _commit(self, batch: Sequence[Outcome], done: trio.Event) -> None:
        try:
            with self._dispatcher.reserve(len(batch)) as reserved:
                reserved.claim = await self._complete(
                    batch, reserved.slug, reserved.qty, reserved.max_bytes, 1.0
                )
        except Exception as error:  # noqa: BLE001 - whatever it is, see passing.py
            await self._commit_again(batch, error)
        else:
            self.handed_over += len(reserved.claim.tasks)
            await self._committed(batch, reserved.claim)
        finally:
            done.set()

    async def _commit_again(self, batch: Sequence[Outcome], error: Exception) -> None:
        """Commit outcomes after their first commit failed.

        They stay together while the server takes no outcomes at all; otherwise they are committed
        one by one. Nothing is claimed here, as the claim may have been what failed; so no slots
        are reserved.
        """
        delay, tries = FIRST_DELAY, 0
        while not await self._is_theirs(batch, error, tries):
            if passes(error):
                complain(error)
                await trio.sleep(delay)
            else:
                log.warning("cannot commit and claim: %s", reason(error))
            try:
                await self._settle(batch, float(2 ** min(tries, 3)))
            except Exception as again:  # noqa: BLE001 - whatever it is, see passing.py
                error, delay, tries = again, min(2 * delay, LONGEST_DELAY), tries + 1
            else:
                return
        log.warning("cannot commit, trying one by one: %s", reason(error))
        for outcome in batch:
            self._commits.start_soon(self._stragglers.settle, outcome)

    async def _is_theirs(self, batch: Sequence[Outcome], error: Exception, tries: int) -> bool:
        """Whether one of these outcomes is to blame, rather than the claim or the server."""
        if len(batch) > 1 and not tries and not isinstance(error, trio.TooSlowError):
            return False
        return not passes(error) or await self._rehearse([])

    async def _settle(self, batch: Sequence[Outcome], time_factor: float) -> None:
        await self._committed(batch, await self._complete(batch, None, 0, 0, time_factor))

    async def _committed(self, batch: Sequence[Outcome], claim: Claim) -> None:
        for place in claim.refused:
            task = batch[place].task
            log.warning("too late: %s%s", task, TOO_LATE, extra=about(task))
        if claim.owed_tasks or claim.owed_runs:
            await self._notify(claim.owed_tasks, claim.owed_runs)


def _stored_size(outcome: Outcome) -> int:
    """The bytes that the output of an outcome adds to its commit."""
    match outcome.output:
        case Inline(json=json):
            return len(json)
        case Stored():
            return outcome.output.unsaved_bytes
    return 0
