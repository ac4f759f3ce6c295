"""Fails the tasks whose last attempt gave no answer in time."""

from contextlib import suppress

import trio

from pgflow_events.core.tasks import Claim
from pgflow_events.worker.claims import Claims
from pgflow_events.worker.dispatcher import Dispatcher

HELD = 0.1  # seconds until we look again for lapsed tasks whose runs others hold just now


class Lapses:
    """The role that fails lapsed tasks as soon as a claim comes upon them.

    Args:
        claims: Makes the calls.
        dispatcher: Is woken for what can be claimed then.
    """

    def __init__(self, claims: Claims, dispatcher: Dispatcher) -> None:
        self._claims, self._dispatcher = claims, dispatcher
        self._report, self._reports = trio.open_memory_channel[None](1)

    def heeded(self, claim: Claim) -> Claim:
        """The same claim; what it says of lapsed tasks is seen to."""
        if claim.lapsed:
            with suppress(trio.WouldBlock):  # it is about to be done anyway
                self._report.send_nowait(None)
        return claim

    async def run(self) -> None:
        """Fail lapsed tasks, until cancelled."""
        async for _ in self._reports:
            await self._dispatcher.until_free_to_claim()
            if not await self._claims.fail_lapsed():
                await trio.sleep(HELD)
            self._dispatcher.wake()
