"""Stops the handlers of tasks that are this worker's no more."""

from collections.abc import Callable
from contextlib import suppress
from typing import Never
from uuid import UUID

import trio

from pgflow_events.core import tasks as queries
from pgflow_events.core.tasks import ClaimedTask
from pgflow_events.postgres.calls import Calls
from pgflow_events.postgres.passing import is_silence
from pgflow_events.worker.ledger import Ledger

NET = 60.0  # seconds between two looks at tasks that nobody spoke of
GAP = 0.005  # seconds between two looks, however many notifications somebody sends


class Stops:
    """The role that asks which tasks at hand are lost, whenever some may be.

    A run may be cancelled, fail or be deleted, a step may be skipped, and another worker may have
    claimed a task whose lease has ended. Without tasks at hand, it asks nothing.

    Args:
        worker_id: The id of this worker.
        calls: Makes the calls.
        ledger: The tasks at hand.
        stop: Stops the handler of a task, and is told why.
    """

    def __init__(
        self,
        worker_id: UUID,
        calls: Calls,
        ledger: Ledger,
        stop: Callable[[ClaimedTask, str], object],
    ) -> None:
        self._worker_id, self._calls = worker_id, calls
        self._ledger, self._stop = ledger, stop
        self._button, self._bell = trio.open_memory_channel[None](1)

    def look(self) -> None:
        """Let it ask soon."""
        with suppress(trio.WouldBlock):  # it is about to ask anyway
            self._button.send_nowait(None)

    async def run(self) -> Never:
        """Ask when told to, and each minute, until cancelled."""
        while True:
            await self._ask()
            await trio.sleep(GAP)
            with trio.move_on_after(NET):
                await self._bell.receive()

    async def _ask(self) -> None:
        tasks = [task for task, _ in self._ledger.open.values()]
        if not tasks:
            return
        stopped = await self._calls.make(
            lambda connection: queries.stopped_tasks(connection, tasks, self._worker_id), is_silence
        )
        for task, why in stopped:
            self._stop(task, why)
