"""Notices when runs end that a client waits for."""

from contextlib import suppress
from uuid import UUID

import trio

from pgflow_events import queries, run_queries
from pgflow_events.calls import Calls
from pgflow_events.connection import Connection
from pgflow_events.listener import Listener

NET = 60.0  # seconds between two looks at a run that nobody spoke of
POLL = 1.0  # seconds, where a pooler is in between and may swallow what is said


class Watch:
    """Notices the end of the awaited runs of one flow, with one query for all of them.

    It holds the flow's advisory lock before it looks at a run, and those who end runs look for
    the lock after their commit: one of the two sees the other.
    """

    def __init__(self, listen_dsn: str, calls: Calls, flow_slug: str) -> None:
        self._listen_dsn = listen_dsn
        self._calls = calls
        self._flow_slug = flow_slug
        self._awaited: dict[UUID, trio.Event] = {}
        self._ring, self._bell = trio.open_memory_channel[None](1)
        self._net = NET

    async def wait(self, run_id: UUID) -> None:
        """Return when this run goes on no more."""
        ended = self._awaited.setdefault(run_id, trio.Event())
        self._look()
        try:
            await ended.wait()
        finally:
            if self._awaited.get(run_id) is ended and not ended.statistics().tasks_waiting:
                del self._awaited[run_id]

    def _look(self) -> None:
        with suppress(trio.WouldBlock):  # it is about to look anyway
            self._ring.send_nowait(None)

    async def run(self) -> None:
        """Listen, and look at the awaited runs whenever some may have ended."""
        channels = await self._calls.make(
            lambda connection: queries.channels(connection, "runs", [self._flow_slug])
        )
        listener = Listener(
            self._listen_dsn, channels, lambda _: self._look(), self._look, on_listen=self._register
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(listener.run)
            while True:
                with trio.move_on_after(self._net if self._awaited else float("inf")):
                    await self._bell.receive()
                if self._awaited:
                    await self._tell()

    async def _register(self, connection: Connection) -> None:
        if connection.is_pooled:  # the lock would stay behind in a session that is lent to others
            self._net = POLL
            return
        await run_queries.hold_waiting_lock(connection, self._flow_slug)

    async def _tell(self) -> None:
        awaited = list(self._awaited)
        ended = await self._calls.make(
            lambda connection: run_queries.find_ended(connection, awaited)
        )
        for run_id in ended:
            with suppress(KeyError):  # nobody waits for it any more
                self._awaited.pop(run_id).set()
