"""Claims tasks flow by flow, so that one that cannot be claimed does not delay the others."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from math import inf
from uuid import UUID

import trio

from pgflow_events.core import tasks as queries
from pgflow_events.core.tasks import Claim, Unreadable
from pgflow_events.core.waking import Source
from pgflow_events.postgres.calls import Calls
from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.passing import blames_data, is_silence, passes, reason, report
from pgflow_events.telemetry import about
from pgflow_events.worker.claiming.turns import Turns

# Seconds until a flow that could not be claimed is tried again. The last one limits the pause
# after an error that may pass by itself.
FIRST_PAUSE, LONGEST_PAUSE, BRIEF_PAUSE = 1.0, 60.0, 3.0

# The answer of a flow that cannot be claimed.
NOTHING = Claim([], next_due=None, refused=[], owed_tasks=[], owed_runs=[])

log = logging.getLogger("pgflow_events.worker")


class Claims:
    """Makes the claims, and knows which flows are left out for now.

    Args:
        calls: Makes the calls.
        turns: Is told which flows are left out, and when they can be claimed again.
        worker_id: The worker that claims.
        slots: How many tasks a claim takes at most.
        notify: Sends the notifications that the failure of a task leaves owed.
    """

    def __init__(
        self,
        calls: Calls,
        turns: Turns,
        worker_id: UUID,
        slots: int,
        *,
        notify: Callable[[list[str], list[str]], Awaitable[None]],
    ) -> None:
        self._calls = calls
        self._turns = turns
        self._worker_id = worker_id
        self._slots = slots
        self._notify = notify
        self._functions: dict[str, str] = {}
        """The function that claims from the queue of each flow."""
        self._left_out = set[str]()
        self.answered = trio.Event()
        """Whether a claim was ever answered."""
        self._pauses: dict[str, float] = {}
        """The next pause of each flow whose last claim failed, by slug."""
        self._report, self._reports = trio.open_memory_channel[tuple[str, Exception]](inf)

    def know(self, sources: Iterable[Source]) -> None:
        """Learn from which queues to claim."""
        self._functions = {source.slug: source.function for source in sources}

    async def claim(self, slug: str, qty: int, max_bytes: int) -> Claim:
        """Claim up to `qty` tasks of a flow that load up to `max_bytes`.

        If that fails twice, the flow is left out for now.
        """
        claiming = self._claiming(slug, qty, max_bytes)
        try:
            try:
                claim = await self._calls.make(claiming, is_silence)
            except Exception as error:  # noqa: BLE001 - whatever it is, see passing.py
                log.warning("cannot claim, trying again: %s", reason(error))
                claim = await self._calls.make_once(claiming)
        except Exception as error:  # noqa: BLE001 - whatever it is, see passing.py
            self._leave_out(slug, error)
            return NOTHING
        self.answered.set()
        self._pauses.pop(slug, None)
        return claim

    def _claiming(
        self, slug: str, qty: int, max_bytes: int
    ) -> Callable[[Connection], Awaitable[Claim]]:
        return partial(
            queries.claim_tasks,
            function=self._functions[slug],
            qty=qty,
            worker_id=self._worker_id,
            max_bytes=max_bytes,
        )

    def _leave_out(self, slug: str, error: Exception) -> None:
        if slug not in self._left_out:
            self._left_out.add(slug)
            self._turns.leave_out(slug)
            self._report.send_nowait((slug, error))

    async def run(self) -> None:
        """Find out when flows that are left out can be claimed again, until cancelled."""
        async with trio.open_nursery() as nursery:
            async for slug, error in self._reports:
                nursery.start_soon(self._mend, slug, error)

    async def _mend(self, slug: str, error: Exception) -> None:
        """Fail the tasks that cannot be read; without such tasks, wait until the flow is mended."""
        if passes(error) or not await self._fail_unreadable(slug):
            await self._wait(slug, error)
        self._left_out.discard(slug)
        self._turns.take_back(slug)

    async def _wait(self, slug: str, error: Exception | None) -> None:
        """Return when a claim of zero tasks is answered; the next claim may still fail."""
        while error:
            pause = self._pauses.get(slug, FIRST_PAUSE)
            self._pauses[slug] = min(2 * pause, BRIEF_PAUSE if passes(error) else LONGEST_PAUSE)
            report(log, f"cannot claim tasks of flow {slug!r}, trying again in {pause:g} s", error)
            await trio.sleep(pause)
            try:
                await self._calls.make_once(self._claiming(slug, 0, 0))
            except Exception as again:  # noqa: BLE001 - whatever it is, see passing.py
                error = again
            else:
                error = None

    async def _fail_unreadable(self, slug: str) -> bool:
        """Fail for good the tasks whose inputs cannot be read. Return whether there were any."""
        try:
            found = await self._calls.make(
                partial(queries.unreadable_tasks, flow_slug=slug, qty=self._slots), is_silence
            )
            unreadable = [task for task in found if blames_data(task.sqlstate)]
            if unreadable:
                await self._fail(unreadable)
        except Exception as error:  # noqa: BLE001 - whatever it is, see passing.py
            report(log, f"cannot find out which tasks of flow {slug!r} cannot be read", error)
            return False
        return bool(unreadable)

    async def _fail(self, unreadable: Sequence[Unreadable]) -> None:
        for each in unreadable:
            task = each.task
            log.error("cannot read the input of %s: %s", task, each.message, extra=about(task))
        failing = partial(queries.fail_unreadable, unreadable=unreadable, worker_id=self._worker_id)
        claim = await self._calls.make(failing, is_silence)
        await self._notify(claim.owed_tasks, claim.owed_runs)

    async def fail_lapsed(self, slugs: Iterable[str]) -> int:
        """Fail the tasks whose last attempt has lapsed. Return how many runs they belong to."""
        return sum([await self._fail_lapsed_of(slug) for slug in slugs])

    async def _fail_lapsed_of(self, slug: str) -> int:
        try:
            return await self._calls.make(
                partial(queries.fail_lapsed_tasks, flow_slugs=[slug]), is_silence
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, see passing.py
            report(log, f"cannot fail the lapsed tasks of flow {slug!r}", error)
            return 0
