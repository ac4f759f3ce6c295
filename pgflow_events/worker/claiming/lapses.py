"""Fails the tasks whose last attempt has lapsed."""

import trio

from pgflow_events.worker.claiming.claims import Claims
from pgflow_events.worker.claiming.dispatcher import Dispatcher

HELD = 0.1  # seconds until the next try, if others hold the runs of the lapsed tasks


class Lapses:
    """The role that fails lapsed tasks as soon as a claim finds some.

    Args:
        claims: Makes the calls.
        dispatcher: Reports lapsed tasks, and is woken for tasks that can be claimed afterwards.
    """

    def __init__(self, claims: Claims, dispatcher: Dispatcher) -> None:
        self._claims, self._dispatcher = claims, dispatcher

    async def run(self) -> None:
        """Fail lapsed tasks, until cancelled."""
        async for _ in self._dispatcher.lapses:
            await self._dispatcher.until_free_to_claim()
            slugs = self._dispatcher.take_lapsed()
            if not await self._claims.fail_lapsed(slugs):
                await trio.sleep(HELD)
            for slug in slugs:
                self._dispatcher.wake(slug)
