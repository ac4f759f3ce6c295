"""Notices when runs end that a client waits for."""

import logging
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from uuid import UUID

import psycopg
import trio

from pgflow_events.core import runs as run_queries
from pgflow_events.core import waking
from pgflow_events.errors import Misuse
from pgflow_events.postgres.calls import Calls
from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.listener import Listener
from pgflow_events.postgres.passing import passes, reason

NET = 60.0  # seconds between two looks at a run that nobody spoke of
POLL = 1.0  # seconds, where nothing is heard: no session listens, or a pooler swallows what is said
LINGER = 10.0  # seconds a flow is listened to after its last run: the next one often follows

CLOSED = "the client is closed: await its runs within `async with connect(...)`"
FAULTS = (psycopg.Error, OSError, MemoryError)  # of those who wait: the client goes on

log = logging.getLogger("pgflow_events.client")


@dataclass(slots=True, eq=False)
class Awaited:
    """A run that somebody waits for."""

    ended: trio.Event = field(default_factory=trio.Event)
    fault: Exception | None = None
    """Why nobody can tell whether it has ended."""


class Watch:
    """Notices the end of awaited runs, with one query and one session for all of them.

    It looks first, and listens if a run goes on. For each flow that it listens to, the session
    holds the flow's advisory lock before it looks again, and those who end runs look for the lock
    after their commit: one of the two sees the other. A standby lets nobody listen; there, and
    while no session listens, it looks each second.
    """

    def __init__(self, listen_dsn: str, calls: Calls) -> None:
        self._calls = calls
        self._awaited: dict[str, dict[UUID, Awaited]] = {}
        """By flow, none of which is empty."""
        self._wanted: dict[str, float] = {}
        """The flows that the session is to listen to, and until when."""
        self._heard: dict[str, str] | None = None
        """The flows that it listens to, and their channels; None while nothing is heard."""
        self._button, self._bell = trio.open_memory_channel[None](1)
        self._in_recovery = self._is_closed = False
        self._session: trio.CancelScope | None = None
        self._listener = Listener(
            listen_dsn,
            [],
            lambda _: self._look(),
            self._look,
            on_listen=self._hear,
            on_lost=self._hear_nothing,
        )

    async def wait(self, run_id: UUID, flow_slug: str) -> None:
        """Return when this run goes on no more.

        Raises:
            psycopg.Error: Nobody can tell, for a reason that will not pass.
            Misuse: The client is closed, or is meanwhile.
        """
        if self._is_closed:
            raise Misuse(CLOSED)
        run = self._awaited.setdefault(flow_slug, {}).setdefault(run_id, Awaited())
        self._look()
        try:
            await run.ended.wait()
        finally:
            if not (run.ended.is_set() or run.ended.statistics().tasks_waiting):
                self._forget(run_id, flow_slug)
        if run.fault:
            raise run.fault

    def _forget(self, run_id: UUID, flow_slug: str) -> None:
        runs = self._awaited[flow_slug]
        del runs[run_id]
        if not runs:
            del self._awaited[flow_slug]
            self._look()  # so that the session lets go of the flow

    def _run_ids(self) -> list[UUID]:
        return [run_id for runs in self._awaited.values() for run_id in runs]

    def _look(self) -> None:
        with suppress(trio.WouldBlock):  # it is about to look anyway
            self._button.send_nowait(None)

    async def run(self) -> None:
        """Look at the awaited runs whenever some may have ended, and listen, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    with trio.move_on_after(self._pause()):
                        await self._bell.receive()
                    before = set(self._awaited)
                    if before:
                        await self._tell()
                    self._want(before)
                    self._attend(nursery)
        finally:
            self._is_closed = True
            self._settle(self._run_ids(), Misuse(CLOSED))

    def _pause(self) -> float:
        """Seconds until it has something to do, if nobody rings."""
        net = NET if self._heard is not None and not self._in_recovery else POLL
        idle = [until for slug, until in self._wanted.items() if slug not in self._awaited]
        due = min(idle, default=inf) - trio.current_time()
        return max(0.0, min(net if self._awaited else inf, due))

    async def _tell(self) -> None:
        """Look, and wake those whose runs have ended."""
        awaited = self._run_ids()
        try:
            ended, self._in_recovery = await self._calls.make(
                lambda connection: run_queries.find_ended(connection, awaited)
            )
        except FAULTS as error:
            self._settle(awaited, error)
        else:
            self._settle(ended)

    def _settle(self, run_ids: Collection[UUID], fault: Exception | None = None) -> None:
        settled = set(run_ids)
        for slug, runs in list(self._awaited.items()):
            for run_id in settled & runs.keys():
                run = runs.pop(run_id)
                run.fault = fault
                run.ended.set()
            if not runs:
                del self._awaited[slug]

    def _want(self, before: set[str]) -> None:
        """Listen to the flows of runs that go on; to others for a while, if they were awaited."""
        now = trio.current_time()
        for slug in self._awaited.keys() | (before & self._wanted.keys()):
            self._wanted[slug] = now + LINGER
        self._wanted = {slug: until for slug, until in self._wanted.items() if until > now}

    def _attend(self, nursery: trio.Nursery) -> None:
        """Have a session that listens to what is wanted, or none."""
        if self._session is None:
            if self._wanted and not self._in_recovery:
                self._session = trio.CancelScope()
                nursery.start_soon(self._listen, self._session)
        elif not self._wanted:
            self._session.cancel()
        elif self._heard is not None and self._heard.keys() != self._wanted.keys():
            self._listener.renew()

    async def _listen(self, session: trio.CancelScope) -> None:
        with session:
            try:
                await self._listener.run()
            except FAULTS as error:  # a password is wrong, or a name
                self._settle(self._run_ids(), error)
        self._session = None
        self._hear_nothing()

    def _hear_nothing(self) -> None:
        self._heard = None
        self._look()

    async def _hear(self, connection: Connection) -> None:
        """Make the session listen to what is wanted, and to nothing else."""
        if connection.is_pooled:  # what is said here would stay in a session that is lent to others
            return
        try:
            await self._listen_to(connection, set(self._wanted), self._heard or {})
        except psycopg.Error as error:  # another database, for one
            if passes(error):
                raise
            self._heard = None
            log.warning("awaited runs are looked at each second: %s", reason(error))

    async def _listen_to(
        self, connection: Connection, wanted: set[str], heard: dict[str, str]
    ) -> None:
        new = await waking.listen_to(connection, wanted - heard.keys())
        gone = {slug: heard[slug] for slug in heard.keys() - wanted}
        await waking.listen_no_more(connection, gone)
        self._heard = {slug: channel for slug, channel in (heard | new).items() if slug in wanted}
