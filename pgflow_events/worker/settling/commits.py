"""Settles outcomes in the database, and wakes other workers and clients afterwards."""

import logging
from collections.abc import Sequence
from uuid import UUID

import trio

from blobstore import Blobs, Stored
from pgflow_events.core import tasks as queries
from pgflow_events.core.tasks import Claim, Outcome
from pgflow_events.core.waking import notify_owed
from pgflow_events.postgres.calls import Calls
from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.passing import reason
from pgflow_events.postgres.pool import Pool
from pgflow_events.worker.ledger import Ledger

REHEARSAL = 5.0  # seconds for a call that is rolled back

log = logging.getLogger("pgflow_events.worker")


class Commits:
    """Settles outcomes, and claims tasks in the same commit.

    Args:
        calls: Makes the calls.
        blobs: Saves the outputs that are blobs.
        ledger: Records what was settled.
        worker_id: The worker that settles and claims.
    """

    def __init__(
        self,
        calls: Calls,
        blobs: Blobs,
        ledger: Ledger,
        worker_id: UUID,
    ) -> None:
        self._calls, self._blobs, self._ledger = calls, blobs, ledger
        self._worker_id = worker_id

    async def complete(
        self,
        outcomes: Sequence[Outcome],
        slug: str | None,
        qty: int,
        max_bytes: int,
        time_factor: float,
    ) -> Claim:
        """Settle outcomes, and claim up to `qty` tasks that load up to `max_bytes`.

        Args:
            outcomes: What is settled.
            slug: The flow to claim from. Without one, only tasks that become ready by these
                outcomes are claimed.
            qty: How many tasks are claimed at most.
            max_bytes: How many bytes of blobs these may load together.
            time_factor: Multiplies the timeout of the call.

        Raises:
            psycopg.Error: No outcome is settled. `passing.passes` says whether to try again.
            trio.TooSlowError: The server did not answer in time.
        """
        blobs = [outcome.output for outcome in outcomes if isinstance(outcome.output, Stored)]
        run_ids = [outcome.task.run_id for outcome in outcomes]

        async def complete(connection: Connection) -> Claim:
            # Blobs come first: writing them takes longest, and no run is locked yet.
            async with self._blobs.saved(connection, blobs, run_ids):
                answer = await queries.complete_tasks(
                    connection,
                    outcomes,
                    [slug] if slug else [],
                    qty=qty,
                    worker_id=self._worker_id,
                    max_bytes=max_bytes,
                )
            return await queries.read_claim(answer)

        claim = await self._calls.make_once(complete, time_factor)
        self._ledger.count(outcomes, claim.refused)
        return claim

    async def rehearse(self, outcomes: Sequence[Outcome]) -> bool:
        """Whether the server would settle these outcomes now. The transaction is rolled back."""

        async def rehearse(connection: Connection) -> None:
            async with connection.transaction(force_rollback=True):
                await queries.complete_tasks(
                    connection, outcomes, [], qty=0, worker_id=self._worker_id, max_bytes=0
                )

        try:
            with trio.fail_after(REHEARSAL):
                await self._calls.make_once(rehearse)
        except Exception:  # noqa: BLE001 - whatever it is, see passing.py
            return False
        return True


async def wake_others(
    pool: Pool, limit: float, owed_tasks: Sequence[str], owed_runs: Sequence[str]
) -> None:
    """Send the notifications that a commit left owed, to workers of flows and to awaiting clients.

    Connections break, so there are two tries. Commits wait for this, so each try has `limit`
    seconds.
    """
    for _ in range(2):
        try:
            with trio.fail_after(limit):
                async with pool.connection() as connection:
                    await notify_owed(connection, owed_tasks, owed_runs)
        except Exception as error:  # noqa: BLE001 - whatever it is, see passing.py
            log.warning("could not wake other workers or clients: %s", reason(error))
        else:
            return
