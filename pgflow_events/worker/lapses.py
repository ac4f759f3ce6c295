"""Fails the tasks whose last attempt gave no answer in time."""

import trio

from pgflow_events.worker.claims import Claims
from pgflow_events.worker.dispatcher import Dispatcher

HELD = 0.1  # seconds until we look again for lapsed tasks whose runs others hold just now


class Lapses:
    """The role that fails lapsed tasks as soon as a claim comes upon them.

    Args:
        claims: Makes the calls.
        dispatcher: Comes upon them, and is woken for what can be claimed then.
    """

    def __init__(self, claims: Claims, dispatcher: Dispatcher) -> None:
        self._claims, self._dispatcher = claims, dispatcher

    async def run(self) -> None:
        """Fail lapsed tasks, until cancelled."""
        async for _ in self._dispatcher.lapses:
            await self._dispatcher.until_free_to_claim()
            if not await self._claims.fail_lapsed():
                await trio.sleep(HELD)
            self._dispatcher.wake()
