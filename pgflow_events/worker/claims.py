"""Claims tasks of several flows, so that one that cannot be claimed does not delay the others."""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from uuid import UUID

import trio

from pgflow_events.core import tasks as queries
from pgflow_events.core.tasks import Claim, Unreadable
from pgflow_events.postgres.calls import Calls
from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.passing import blames_data, is_silence, passes, reason, report
from pgflow_events.telemetry import about

# Seconds until a flow that could not be claimed is tried again. The last one limits the pause
# after an error that may pass by itself.
FIRST_PAUSE, LONGEST_PAUSE, BRIEF_PAUSE = 1.0, 60.0, 3.0

# The answer while no flow can be claimed.
NOTHING = Claim([], next_due=None, refused=[], owed_tasks=[], owed_runs=[])

log = logging.getLogger("pgflow_events.worker")


class Claims:
    """Owns the order of the flows, and the set of flows that are left out for now.

    Args:
        calls: Makes the calls.
        flow_slugs: The flows.
        worker_id: The worker that claims.
        slots: How many tasks a claim takes at most.
        notify: Sends the notifications that the failure of a task leaves owed.
        wake: Called when a flow can be claimed again.
    """

    def __init__(
        self,
        calls: Calls,
        flow_slugs: Sequence[str],
        worker_id: UUID,
        slots: int,
        *,
        notify: Callable[[list[str], list[str]], Awaitable[None]],
        wake: Callable[[], None],
    ) -> None:
        self._calls = calls
        self._slugs = deque(flow_slugs)
        self._worker_id = worker_id
        self._slots = slots
        self._notify = notify
        self._wake = wake
        self._left_out = set[str]()
        self.answered = trio.Event()
        """Whether a claim was ever answered."""
        self._pauses: dict[str, float] = {}
        """The next pause of each flow whose last claim failed, by slug."""
        self._report, self._reports = trio.open_memory_channel[tuple[str, Exception]](
            len(flow_slugs) or 1
        )

    def slugs_in_turn(self) -> list[str]:
        """The flows to claim from; each time another one comes first."""
        self._slugs.rotate()
        return [slug for slug in self._slugs if slug not in self._left_out]

    async def claim(self, qty: int, max_bytes: int) -> Claim:
        """Claim up to `qty` tasks that load up to `max_bytes`, from all flows not left out."""
        slugs = self.slugs_in_turn()
        if not slugs:
            return NOTHING
        try:
            claim = await self._calls.make(self._claiming(slugs, qty, max_bytes), is_silence)
        except Exception as error:  # noqa: BLE001 - whatever it is, see passing.py
            log.warning("cannot claim, trying flow by flow: %s", reason(error))
            return await self._claim_apart(slugs, qty, max_bytes)
        self.answered.set()
        for slug in slugs if self._pauses else ():
            self._pauses.pop(slug, None)
        return claim

    async def _claim_apart(self, slugs: Sequence[str], qty: int, max_bytes: int) -> Claim:
        """Claim flow by flow, and leave out the flows that cannot be claimed."""
        whole = NOTHING
        for slug in slugs:
            try:
                claim = await self._calls.make_once(self._claiming([slug], qty, max_bytes))
            except Exception as error:  # noqa: BLE001 - whatever it is, see passing.py
                self._leave_out(slug, error)
            else:
                self.answered.set()
                self._pauses.pop(slug, None)
                qty -= len(claim.tasks)
                max_bytes -= sum(task.input_bytes for task in claim.tasks)
                whole = _merged(whole, claim)
        return whole

    def _claiming(
        self, slugs: Sequence[str], qty: int, max_bytes: int
    ) -> Callable[[Connection], Awaitable[Claim]]:
        return partial(
            queries.claim_tasks,
            flow_slugs=slugs,
            qty=qty,
            worker_id=self._worker_id,
            max_bytes=max_bytes,
        )

    def _leave_out(self, slug: str, error: Exception) -> None:
        if slug not in self._left_out:
            self._left_out.add(slug)
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
        self._wake()

    async def _wait(self, slug: str, error: Exception | None) -> None:
        """Return when a claim of zero tasks is answered; the next claim may still fail."""
        while error:
            pause = self._pauses.get(slug, FIRST_PAUSE)
            self._pauses[slug] = min(2 * pause, BRIEF_PAUSE if passes(error) else LONGEST_PAUSE)
            report(log, f"cannot claim tasks of flow {slug!r}, trying again in {pause:g} s", error)
            await trio.sleep(pause)
            try:
                await self._calls.make_once(self._claiming([slug], 0, 0))
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

    async def fail_lapsed(self) -> int:
        """Fail the tasks whose last attempt has lapsed. Return how many runs they belong to."""
        slugs = list(self._slugs)
        if len(slugs) > 1:
            with suppress(Exception):  # one flow is to blame: its own call below reports it
                return await self._fail_lapsed(slugs)
        return sum([await self._fail_lapsed_of(slug) for slug in slugs])

    async def _fail_lapsed_of(self, slug: str) -> int:
        try:
            return await self._fail_lapsed([slug])
        except Exception as error:  # noqa: BLE001 - whatever it is, see passing.py
            report(log, f"cannot fail the lapsed tasks of flow {slug!r}", error)
            return 0

    async def _fail_lapsed(self, slugs: Sequence[str]) -> int:
        return await self._calls.make(
            partial(queries.fail_lapsed_tasks, flow_slugs=slugs), is_silence
        )


def _merged(one: Claim, other: Claim) -> Claim:
    """Two answers, combined into one."""
    dues = [claim.next_due for claim in (one, other) if claim.next_due is not None]
    return replace(
        one,
        tasks=one.tasks + other.tasks,
        next_due=min(dues, default=None),
        next_bytes=one.next_bytes or other.next_bytes,
        lapsed=one.lapsed or other.lapsed,
    )
