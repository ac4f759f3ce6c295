"""How a worker leaves the database: it gives back its tasks, and then its seat."""

import logging
from collections.abc import Sequence
from uuid import UUID

import trio

from pgflow_events.core import tasks as queries
from pgflow_events.core.tasks import ClaimedTask
from pgflow_events.postgres.calls import Calls
from pgflow_events.postgres.passing import reason
from pgflow_events.postgres.pool import Pool
from pgflow_events.worker.ledger import Ledger
from pgflow_events.worker.liveness import Liveness

# Seconds that each of the two may take. Cleaning up after its cancellation comes on top.
GIVE_BACK, TAKE_LEAVE = 5.0, 2.0
TRY = 0.4  # part of these seconds after which a call is repeated, on another connection

log = logging.getLogger("pgflow_events.worker")


class Leaving:
    """Gives back what was claimed and not committed, and takes leave of the peers.

    Args:
        worker_id: The id of the worker.
        pool: Its connections.
        ledger: Its tasks at hand.
        liveness: Holds its seat.
    """

    def __init__(self, worker_id: UUID, pool: Pool, ledger: Ledger, liveness: Liveness) -> None:
        self._worker_id, self._pool = worker_id, pool
        self._ledger, self._liveness = ledger, liveness

    async def leave(self) -> bool:
        """Give back tasks, take leave, log a summary. Return whether no task was left behind.

        Peers or timeouts free the tasks that are left behind, and their attempts count.
        """
        tasks = self._ledger.at_hand
        if cut_off := self._ledger.uncommitted:
            log.warning("%d outcomes were not committed in time: giving their tasks back", cut_off)
        with trio.move_on_after(GIVE_BACK) as limit:
            await self._give_back(tasks, Calls(self._pool, TRY * GIVE_BACK))
        if left := self._ledger.at_hand:
            why = ": the database does not answer" if limit.cancelled_caught else ""
            log.error("%d of %d tasks could not be given back%s", len(left), len(tasks), why)
        await self._liveness.leave(Calls(self._pool, TRY * TAKE_LEAVE), TAKE_LEAVE)
        if done := str(self._ledger):
            log.info("done: %s", done)
        return not left

    async def _give_back(self, tasks: Sequence[ClaimedTask], calls: Calls) -> None:
        """Let other workers have these tasks. Outcomes that were committed unnoticed stay."""
        if not tasks:
            return
        try:
            released = await calls.make(
                lambda connection: queries.release_tasks(connection, tasks, self._worker_id)
            )
        except Exception as error:  # noqa: BLE001 - find the one that the database refuses
            if len(tasks) > 1:
                for task in tasks:
                    await self._give_back([task], calls)
            else:
                log.warning("cannot give back %s: %s", tasks[0], reason(error))
        else:
            self._ledger.give_back(tasks, released)
