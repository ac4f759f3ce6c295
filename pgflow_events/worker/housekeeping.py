"""The periodic work of a worker: it checks that notifications arrive, and it tidies up."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Never, TypeVar

import psycopg
import trio

from blobstore import Blobs
from blobstore.abc import Caller
from pgflow_events.core.waking import ping
from pgflow_events.postgres.calls import Calls
from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.listener import Listener
from pgflow_events.postgres.passing import is_silence, reason, report
from pgflow_events.postgres.pool import Pool
from pgflow_events.settings import Settings
from pgflow_events.upkeep import retention
from pgflow_events.upkeep.retention import Pruned
from pgflow_events.worker.claiming.dispatcher import Dispatcher

T = TypeVar("T")

HEARING = 5.0  # seconds that the notification of a self-check may take

log = logging.getLogger("pgflow_events.worker")


class SelfCheck:
    """The role that proves that notifications arrive, and claims as if one had been missed.

    Args:
        calls: Sends the notification, on another connection than the listener's.
        dispatcher: Is woken after each check, and polls while notifications do not arrive.
        settings: `check_interval` and `poll_interval` are used.

    Attributes:
        due: When the next check should be over.
    """

    def __init__(self, calls: Calls, dispatcher: Dispatcher, settings: Settings) -> None:
        self._calls = calls
        self._dispatcher = dispatcher
        self._settings = settings
        self._said = ""
        self.due = inf

    async def run(self, listener: Listener) -> Never:
        """Check periodically, until cancelled."""
        settings = self._settings
        heard, self.due = True, trio.current_time() + HEARING
        while True:
            before, heard = heard, await self._is_heard(listener)
            if before and not heard:
                log.warning(
                    "notifications do not arrive: claiming every %s s instead. Behind a pooler, set"
                    " listen_dsn to the server itself",
                    settings.poll_interval,
                )
            self._dispatcher.poll_every(inf if heard else settings.poll_interval)
            self._dispatcher.wake()  # only now: the claim can use the connection of the check
            pause = settings.check_interval if heard else settings.poll_interval
            self.due = trio.current_time() + pause + HEARING
            await trio.sleep(pause)

    async def _is_heard(self, listener: Listener) -> bool:
        """Send a notification. Return whether it arrived; False too if it cannot be sent."""
        try:
            heard = await listener.check(self._ping, HEARING)
        except Exception as error:  # noqa: BLE001 - whatever it is, see passing.py
            if reason(error) != self._said:  # log it once, rather than with each poll
                report(log, "cannot send a notification", error)
            self._said = reason(error)
            return False
        self._said = ""
        return heard

    async def _ping(self, channel: str) -> None:
        await self._calls.make(lambda connection: ping(connection, channel), is_silence)


async def keep_house(
    pool: Pool, calls: Calls, blobs: Blobs, flow_slugs: Sequence[str], settings: Settings
) -> Never:
    """Create partitions, delete what has expired, close superfluous connections, until cancelled.

    It works midway between two self-checks: so one connection is enough for an idle worker.
    """

    async def make(call: Callable[[Connection], Awaitable[T]]) -> T:
        # A call that the server refuses waits for the next time, so that other chores go on.
        return await calls.make(call, is_silence)

    async def learn() -> None:
        with trio.fail_after(settings.call_timeout):
            await blobs.use_dictionaries(flow_slugs)

    chores: list[Callable[[], Awaitable[object]]] = [
        learn,
        lambda: retention.ensure_days(make),
        lambda: retention.forget(make, Pruned()),
        lambda: _prune(make, settings),
        pool.close_untouched,
    ]
    pause = settings.check_interval / 2
    while True:
        for chore in chores:
            try:
                await chore()
            except psycopg.errors.InsufficientPrivilege as error:
                log.warning(
                    "%s: have the owner of the schema pgflow run `pgflow-events prune`",
                    reason(error),
                )
            except Exception as error:  # noqa: BLE001 - the other chores are not to blame
                log.warning("could not tidy up: %s", reason(error))
        await trio.sleep(pause)
        pause = settings.check_interval


async def _prune(make: Caller, settings: Settings) -> None:
    """Delete the runs that are older than `keep_runs`, by whole days."""
    if settings.keep_runs is not None:
        older_than = await retention.cutoff(make, settings.keep_runs, whole_days=True)
        await retention.prune(make, older_than)
