"""Notices that a peer has died. Knows no SQL.

A worker that listens holds the lock of its seat; the peer before it in the ring waits for that
lock. The kernel closes the sockets of a process that ends, however it ends; the server then drops
its locks, and whoever waits is told. What looks like a death is none if another session of the
peer is still there, or if it has another seat by now.
"""

import logging
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import Never
from uuid import UUID

import psycopg
import trio
from psycopg.rows import TupleRow

from pgflow_events.core import workers as seats
from pgflow_events.core.workers import Seat
from pgflow_events.postgres.calls import Calls
from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.passing import passes, reason
from pgflow_events.postgres.pool import Pool
from pgflow_events.settings import Settings

RENEWAL = 1.0  # seconds a wait may last while something is written: vacuum waits for it
DOUBT = 0.5  # seconds until a peer is looked at again of which a session is left, but not its seat

# It may wait for long.
NO_TIMEOUTS = "set statement_timeout = 0; set idle_session_timeout = 0"
# Where only this session shows that its worker lives, its end must be noticed while it waits.
CHECK_CLIENT = "set client_connection_check_interval = '1s'"
POOLED = "its DSN leads to a pooler: set listen_dsn to the server itself"

log = logging.getLogger("pgflow_events.liveness")


class Pooled(Exception):
    """A session may not keep a lock here: peers cannot be watched."""


class Liveness:
    """Makes one worker known to its peers, and watches the next of them.

    It has a connection of its own, on which it waits in the server. While nothing is written to the
    database the wait is repeated each `check_interval`, else each second.

    Args:
        worker_id: Of the worker.
        flow_slugs: What it runs.
        dsn: Of the worker.
        settings: `listen_dsn`, `grace` and some more.
    """

    def __init__(
        self, worker_id: UUID, flow_slugs: Sequence[str], dsn: str, settings: Settings
    ) -> None:
        self._id = worker_id
        self._flow_slugs = flow_slugs
        self._settings = settings
        self._is_pooled = bool(settings.listen_dsn)
        self._pool = Pool(settings.listen_dsn or dsn, max_size=1, on_connect=self._on_connect)
        # A wait that is not answered in time has lost its server.
        self._watching = Calls(self._pool, settings.check_interval + settings.call_timeout)
        self._has_left = False
        self._hint, self._hints = trio.open_memory_channel[None](1)
        self._connected_at = inf
        self._overtaken = trio.Event()
        self._waiting: Connection[TupleRow] | None = None
        self._cutting = trio.Lock()
        self._seen = set[Seat]()
        """The peers that were there during this very connection."""
        self._absent: dict[Seat, float] = {}
        """Those that may be about to come back, and until when the next one is watched."""

    async def take_seat(self, connection: Connection[TupleRow]) -> None:
        """Appear among the peers, for as long as this session lasts.

        A lock would stay behind in the session that a pooler lends for a transaction: a worker
        that takes no seat is not watched, and has the timeouts of its tasks.
        """
        if self._is_in_doubt(connection) or self._has_left:
            return
        host = socket.gethostname()
        try:
            await seats.take_seat(connection, self._id, self._flow_slugs, host, os.getpid())
        except Exception as error:  # another database, for one
            if passes(error):
                raise
            log.warning("no peer will notice if this worker dies: %s", reason(error))

    async def show_life(self, connection: Connection[TupleRow]) -> None:
        """Let this session of the pool tell that we live, should the one that listens be cut.

        Nothing outlasts a transaction behind a pooler: there the session that watches does it.
        """
        if not (self._is_pooled or connection.is_pooled):
            await seats.hold_worker_lock(connection, self._id)

    def _is_in_doubt(self, connection: Connection[TupleRow]) -> bool:
        """Whether this session may not keep a lock. A DSN to listen at is one where it does."""
        return connection.is_pooled and not self._is_pooled

    def look(self) -> None:
        """Somebody may have come or gone."""
        with suppress(trio.WouldBlock):  # we are about to look anyway
            self._hint.send_nowait(None)

    async def run(self, calls: Calls) -> Never:
        """Watch the next peer, whichever it is, until cancelled. The calls are on the pool."""
        try:
            await self._watch_all(calls)
        except* Pooled:
            log.warning("this worker and its peers will not notice each other's deaths: %s", POOLED)
        await trio.sleep_forever()

    async def _watch_all(self, calls: Calls) -> Never:
        async with self._pool:
            while True:
                peer = await self._watching.make(self._next)
                self._overtaken = trio.Event()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._look_out, peer, calls)
                    if peer:
                        await self._watch(peer)
                    else:
                        with trio.move_on_at(self._returns()):
                            await self._overtaken.wait()
                    nursery.cancel_scope.cancel()

    async def leave(self, calls: Calls, limit: float) -> None:
        """Go, and leave no task claimed. If that fails, the peers take us for dead: it will do."""
        self._has_left = True  # a listener that comes back has no seat any more
        self._pool.hurry(limit)
        try:
            with trio.fail_after(limit):
                await calls.make(lambda connection: seats.leave_seat(connection, self._id))
        except Exception as error:  # noqa: BLE001 - whatever it is, see passing.py
            log.warning("could not tell the other workers that this one leaves: %s", reason(error))

    async def _next(self, connection: Connection[TupleRow]) -> Seat | None:
        peers = await seats.next_workers(connection, self._id)
        now = trio.current_time()
        self._seen.intersection_update(peers)
        self._absent = {
            peer: until for peer, until in self._absent.items() if peer in peers and until > now
        }
        return next((peer for peer in peers if peer not in self._absent), None)

    async def _look_out(self, peer: Seat | None, calls: Calls) -> None:
        """End the watch as soon as another peer is the next one."""
        async for _ in self._hints:
            if await calls.make(self._next) != peer:
                self._overtaken.set()
                await self._cut_short()

    async def _cut_short(self) -> None:
        """Have the server end the wait, and not the session: it may be all that shows that we live.

        A request that overtakes its query ends nothing, and is repeated.
        """
        while (session := self._waiting) is not None:
            async with self._cutting:
                if session is self._waiting:  # still, since the lock takes a moment
                    with suppress(psycopg.Error):
                        await session.cancel_safe()
            await trio.sleep(0.1)

    async def _watch(self, peer: Seat) -> None:
        """Wait until the seat is free; then bury the peer, if it is dead and not just absent."""
        wait, written = 0.0, 0
        while not self._overtaken.is_set():
            state, xid = await self._watching.make(partial(self._await_seat, peer, wait))
            if state == "taken":
                self._seen.add(peer)
                wait = self._time_to_wait(is_written=xid != written)
                written = xid
                if wait <= 0:  # those who were absent should be back
                    break
            elif state == "free" and peer not in self._seen and not self._grace_is_over():
                self._absent[peer] = self._grace_ends()
                break
            elif state in {"free", "freed"}:
                if not await self._watching.make(partial(self._bury, peer, self._connected_at)):
                    self._absent[peer] = trio.current_time() + DOUBT
                break

    def _time_to_wait(self, *, is_written: bool) -> float:
        """Seconds to wait now."""
        wait = RENEWAL if is_written else self._settings.check_interval
        return min(wait, self._returns() - trio.current_time())

    def _returns(self) -> float:
        """When one of those that are absent is to be looked at again."""
        return min(self._absent.values(), default=inf)

    async def _bury(
        self, peer: Seat, connected_at: float, connection: Connection[TupleRow]
    ) -> bool:
        # What we have seen before the server was lost says nothing any more.
        if connected_at != self._connected_at or not await seats.bury_worker(connection, peer):
            return False
        log.warning("worker %s has died: its tasks can be claimed again", peer.worker_id)
        return True

    def _grace_is_over(self) -> bool:
        return trio.current_time() >= self._grace_ends()

    def _grace_ends(self) -> float:
        return self._connected_at + self._settings.grace

    async def _await_seat(
        self, peer: Seat, wait: float, connection: Connection[TupleRow]
    ) -> tuple[str, int]:
        self._waiting = connection
        try:
            if self._overtaken.is_set():
                return "overtaken", 0
            return await seats.await_seat(connection, peer.seat, wait)
        except psycopg.errors.QueryCanceled:
            return "overtaken", 0
        finally:
            self._waiting = None
            async with self._cutting:  # what is on its way shall not meet the next statement
                pass

    async def _on_connect(self, connection: Connection[TupleRow]) -> None:
        if self._is_in_doubt(connection):
            raise Pooled
        self._connected_at = trio.current_time()
        self._seen.clear()
        self._absent.clear()
        await connection.execute(NO_TIMEOUTS)
        if self._is_pooled:
            await seats.hold_worker_lock(connection, self._id)
            with suppress(psycopg.Error):  # not all systems can tell
                await connection.execute(CHECK_CLIENT)
