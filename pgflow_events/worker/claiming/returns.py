"""Gives back tasks that were claimed ahead and whose turn does not come, and drops stopped ones."""

import logging
from collections.abc import Sequence
from uuid import UUID

from pgflow_events.core import tasks as queries
from pgflow_events.core.tasks import ClaimedTask
from pgflow_events.postgres.calls import Calls
from pgflow_events.postgres.passing import reason
from pgflow_events.texts import counted
from pgflow_events.worker.claiming.dispatcher import Dispatcher
from pgflow_events.worker.ledger import Ledger

log = logging.getLogger("pgflow_events.worker")


class Returns:
    """Lets other workers have tasks that this one has not begun, and takes leave of stopped ones.

    Args:
        worker_id: The id of this worker.
        calls: Makes the calls.
        ledger: Its tasks at hand.
        dispatcher: Gets the slots back.
    """

    def __init__(
        self, worker_id: UUID, calls: Calls, ledger: Ledger, dispatcher: Dispatcher
    ) -> None:
        self._worker_id, self._calls = worker_id, calls
        self._ledger, self._dispatcher = ledger, dispatcher

    async def give_back(self, tasks: Sequence[ClaimedTask]) -> None:
        """Give back tasks. Their attempts do not count.

        The call is not repeated: if only its answer was lost, this worker may have claimed such a
        task again, with the same number of the attempt. A task that is not given back is claimed
        again when its attempt lapses.
        """
        for task in tasks:  # from now on, no outcome of theirs may be sent
            self._ledger.close(task)
        released = 0
        try:
            released = await self._calls.make_once(
                lambda connection: queries.release_tasks(connection, tasks, self._worker_id)
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, their timeouts free them
            what = counted(len(tasks), "task")
            log.warning("cannot give back %s that waited for a slot: %s", what, reason(error))
        self._ledger.give_back(tasks, released)
        self._dispatcher.free(tasks)
        self._dispatcher.wake()  # slots may be free by now

    def drop(self, task: ClaimedTask) -> None:
        """Take back the slot of a task whose attempt was stopped: it is this worker's no more."""
        self._ledger.drop(task)
        self._dispatcher.free([task])
        self._dispatcher.wake(task.flow_slug)
