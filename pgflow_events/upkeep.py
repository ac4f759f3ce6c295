"""What a worker sees to now and then: that notifications arrive, and that there is room."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Never

import psycopg
import trio

from blobstore import Blobs
from pgflow_events import queries, retention
from pgflow_events.calls import Calls
from pgflow_events.dispatcher import Dispatcher
from pgflow_events.listener import Listener
from pgflow_events.passing import reason, report
from pgflow_events.retention import Pruned
from pgflow_events.settings import Settings

HEARING = 5.0  # seconds the notification of a self-check may take

log = logging.getLogger("pgflow_events.worker")


class SelfCheck:
    """The role that proves that notifications arrive, and claims as if one had been missed.

    Args:
        calls: Sends the notification, on another connection than the listener's.
        dispatcher: Is woken each time, and claims more often while nothing is heard.
        settings: `check_interval` and `poll_interval`.

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
        """Check now and then, until cancelled."""
        settings = self._settings
        heard, self.due = True, trio.current_time() + HEARING
        while True:
            before, heard = heard, await self._is_heard(listener)
            if before and not heard:
                log.warning(
                    "notifications do not arrive: claiming every %s s. Behind a pooler, give the"
                    " worker a DSN of the server itself to listen at",
                    settings.poll_interval,
                )
            self._dispatcher.poll_every(inf if heard else settings.poll_interval)
            pause = settings.check_interval if heard else settings.poll_interval
            self.due = trio.current_time() + pause + HEARING
            await trio.sleep(pause)
            self._dispatcher.wake()

    async def _is_heard(self, listener: Listener) -> bool:
        """Whether a notification arrived; one that cannot be sent did not."""
        try:
            heard = await listener.check(self._ping, HEARING)
        except Exception as error:  # noqa: BLE001 - whatever it is, see passing.py
            if reason(error) != self._said:  # once, and not with each poll
                report(log, "cannot send a notification", error)
            self._said = reason(error)
            return False
        self._said = ""
        return heard

    async def _ping(self, channel: str) -> None:
        await self._calls.make(lambda connection: queries.ping(connection, channel))


async def keep_house(
    calls: Calls, blobs: Blobs, flow_slugs: Sequence[str], settings: Settings
) -> Never:
    """Make room for what comes, and delete what is to be kept no longer, until cancelled."""
    chores: list[Callable[[], Awaitable[object]]] = [
        lambda: blobs.use_dictionaries(flow_slugs),
        lambda: retention.ensure_days(calls.make),
        lambda: retention.forget(calls.make, Pruned()),
        lambda: prune(calls, settings),
    ]
    while True:
        for chore in chores:
            try:
                await chore()
            except psycopg.errors.InsufficientPrivilege as error:
                log.warning("%s: let the owner call `pgflow-events prune`", reason(error))
            except Exception as error:  # noqa: BLE001 - the other chores are not to blame
                log.warning("could not tidy up: %s", reason(error))
        await trio.sleep(settings.check_interval)


async def prune(calls: Calls, settings: Settings) -> None:
    """Delete the runs that are to be kept no longer, by whole days."""
    if settings.keep_runs is not None:
        older_than = await retention.cutoff(calls.make, settings.keep_runs, whole_days=True)
        await retention.prune(calls.make, older_than)
