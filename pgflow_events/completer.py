"""Commits outcomes: those that gather while commits are under way go into the next one together."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import psycopg
import trio

from blobstore import Inline, Stored
from pgflow_events.dispatcher import Dispatcher
from pgflow_events.queries import Claim, Outcome

log = logging.getLogger("pgflow_events.completer")

LANES = 2  # commits under way at a time, if there is enough for each
FEWEST_OUTCOMES = 64  # are enough: what a call costs by itself is as much as some 20 tasks
MOST_OUTCOMES = 500
MOST_BYTES = 64 * 1024 * 1024


class Completer:
    """Owns the outcomes that are not committed yet.

    Args:
        dispatcher: Gets the slots back, and what a commit claimed.
        slots: How many tasks run at a time. A commit takes at most half of them, so that handlers
            go on while the server works.
        complete: Settles outcomes and claims up to so many tasks and bytes, in one commit.
        notify: Sends what a commit left owed (flows with queued tasks, flows with ended runs).
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        slots: int,
        complete: Callable[[Sequence[Outcome], int, int], Awaitable[Claim]],
        notify: Callable[[list[str], list[str]], Awaitable[None]],
    ) -> None:
        self._dispatcher = dispatcher
        self._complete = complete
        self._notify = notify
        self._most = min(max(slots // LANES, FEWEST_OUTCOMES), MOST_OUTCOMES)
        self._inlet, self._outcomes = trio.open_memory_channel[Outcome](MOST_OUTCOMES)
        self._turn = trio.Lock()
        self.handed_over = 0
        """Tasks that started without a claim of their own."""

    async def settle(self, outcome: Outcome) -> None:
        """Take an outcome, to be committed soon."""
        await self._inlet.send(outcome)

    def close(self) -> None:
        """Take no more outcomes; :meth:`run` returns when those at hand are committed."""
        self._inlet.close()

    async def run(self) -> None:
        """Commit outcomes as they come, until closed."""
        async with trio.open_nursery() as lanes:
            for _ in range(LANES):
                lanes.start_soon(self._run_lane)

    async def _run_lane(self) -> None:
        while True:
            async with self._turn:
                try:
                    batch = self._gather(await self._outcomes.receive())
                except trio.EndOfChannel:
                    return
                self._dispatcher.free([outcome.task for outcome in batch])
                if len(batch) < self._most:  # what comes meanwhile shall gather
                    await self._commit(batch)
                    continue
            await self._commit(batch)

    def _gather(self, first: Outcome) -> list[Outcome]:
        batch, size = [first], stored_size(first)
        while len(batch) < self._most and size < MOST_BYTES:
            try:
                batch.append(self._outcomes.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                break
            size += stored_size(batch[-1])
        return batch

    async def _commit(self, batch: Sequence[Outcome]) -> None:
        try:
            with self._dispatcher.call() as call:
                call.claim = await self._complete(batch, call.qty, call.max_bytes)
        except psycopg.Error as error:
            await self._commit_apart(batch, error)
        else:
            self.handed_over += len(call.claim.tasks)
            for place in call.claim.refused:
                log.warning("too late: %s", name(batch[place]))
            if call.claim.owed_tasks or call.claim.owed_runs:
                await self._notify(call.claim.owed_tasks, call.claim.owed_runs)

    async def _commit_apart(self, batch: Sequence[Outcome], error: psycopg.Error) -> None:
        """One of these the database will not take: find it, and let its task say so."""
        if len(batch) > 1:
            for outcome in batch:
                await self._commit([outcome])
        elif batch[0].output is not None:
            # Not the server's details, which quote from the row.
            reason = error.diag.message_primary or str(error)
            log.error("cannot store the output of %s: %s", name(batch[0]), reason)
            failed = f"the output cannot be stored: {reason.replace(chr(0), '')}"
            # The server's own faults, such as a damaged index, may be mended by the next attempt.
            permanent = not (is_upload(batch[0]) or isinstance(error, psycopg.InternalError))
            await self._commit([replace(batch[0], output=None, error=failed, permanent=permanent)])
        else:
            reason = error.diag.message_primary or str(error)
            log.error("cannot settle %s, its timeout will: %s", name(batch[0]), reason)


def stored_size(outcome: Outcome) -> int:
    """The bytes that its output adds to the commit."""
    match outcome.output:
        case Inline(json=json):
            return len(json)
        case Stored():
            return outcome.output.unsaved_bytes
    return 0


def is_upload(outcome: Outcome) -> bool:
    """Whether its chunks were committed before: a crash of the server may have undone these."""
    return isinstance(outcome.output, Stored) and outcome.output.upload is not None


def name(outcome: Outcome) -> str:
    """The attempt, for the log."""
    return str(outcome.task)
