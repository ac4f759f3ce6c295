"""Notices that a peer has died. Knows no SQL.

A worker that listens holds the lock of its seat; the peer before it in the ring waits for that
lock. When a process ends, however it ends, the kernel closes its sockets. The server then drops
its locks, and the waiting peer gets the lock. The worker is not dead if another of its sessions
still exists, or if it holds another seat by now.
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

RENEWAL = 1.0  # seconds a wait may last while others write: its snapshot holds up vacuum
DOUBT = 0.5  # seconds until the next look at a peer that has lost its seat but has a session left

# The session waits for a seat for a long time.
NO_TIMEOUTS = "set statement_timeout = 0; set idle_session_timeout = 0"
# If only this session shows that the worker lives, the server must notice its end during a wait.
CHECK_CLIENT = "set client_connection_check_interval = '1s'"
POOLED = "its DSN leads to a pooler: set listen_dsn to the server itself"

log = logging.getLogger("pgflow_events.liveness")


class LeadsToPooler(Exception):
    """Sessions keep no locks here, because of a pooler: peers cannot be watched."""


class Liveness:
    """Makes a worker known to its peers, and watches its next peer in the ring.

    While there is a peer, the watch has a connection of its own, and waits in the server. While
    nothing is written to the database, it repeats the wait every `check_interval` seconds;
    otherwise every second.

    Args:
        worker_id: The id of the worker.
        flow_slugs: The flows that it runs.
        dsn: The DSN of the worker.
        settings: `listen_dsn`, `grace`, `check_interval` and `call_timeout` are used.
    """

    def __init__(
        self, worker_id: UUID, flow_slugs: Sequence[str], dsn: str, settings: Settings
    ) -> None:
        self._id = worker_id
        self._flow_slugs = flow_slugs
        self._settings = settings
        self._is_pooled = bool(settings.listen_dsn)
        self._pool = Pool(settings.listen_dsn or dsn, max_size=1, on_connect=self._on_connect)
        # If the server does not answer a wait in time, the connection is lost.
        self._watching = Calls(self._pool, settings.check_interval + settings.call_timeout)
        self._has_left = False
        self._hint, self._hints = trio.open_memory_channel[None](1)
        self._connected_at = inf
        self._overtaken = trio.Event()
        self._waiting: Connection[TupleRow] | None = None
        self._cutting = trio.Lock()
        self._seen = set[Seat]()
        """The peers that held their seats at some time during this connection."""
        self._crowds: dict[str, int] = {}
        self._absent: dict[Seat, float] = {}
        """Peers that may be about to come back, each with the time at which to look again."""

    async def take_seat(self, connection: Connection[TupleRow]) -> None:
        """Appear among the peers, for as long as this session lasts.

        Behind a pooler the lock would stay in a session that is lent to others. There the worker
        takes no seat and is not watched; after its death, its tasks wait for their timeouts.
        """
        if self._is_in_doubt(connection) or self._has_left:
            return
        host = socket.gethostname()
        try:
            await seats.take_seat(connection, self._id, self._flow_slugs, host, os.getpid())
        except Exception as error:  # listen_dsn may name another database, for example
            if passes(error):
                raise
            log.warning("no peer will notice if this worker dies: %s", reason(error))

    async def show_life(self, connection: Connection[TupleRow]) -> None:
        """Hold a lock in this session of the pool, as a sign of life if the listener is cut off.

        Behind a pooler no lock outlasts a transaction; there the watching session holds the lock.
        """
        if not (self._is_pooled or connection.is_pooled):
            await seats.hold_worker_lock(connection, self._id)

    def _is_in_doubt(self, connection: Connection[TupleRow]) -> bool:
        """Whether this session may lose its locks. With a `listen_dsn` it is sure to keep them."""
        return connection.is_pooled and not self._is_pooled

    def crowd(self, flow_slug: str) -> int:
        """How many workers run a flow, as far as is known."""
        return self._crowds.get(flow_slug, 1)

    def look(self) -> None:
        """Look at the ring again: a peer may have come or gone."""
        with suppress(trio.WouldBlock):  # a look is due already
            self._hint.send_nowait(None)

    async def run(self, calls: Calls) -> Never:
        """Watch whichever peer is next, until cancelled. `calls` uses the worker's own pool."""
        try:
            await self._watch_all(calls)
        except* LeadsToPooler:
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
                        await self._rest()
                        with trio.move_on_at(self._returns()):
                            await self._overtaken.wait()
                    nursery.cancel_scope.cancel()

    async def _rest(self) -> None:
        """Close the connection if there is nobody to watch, unless it is our only sign of life."""
        if not self._absent and not self._is_pooled:
            await self._pool.close_idle()

    async def leave(self, calls: Calls, limit: float) -> None:
        """Leave the ring, and give back every task that is still claimed.

        If that fails, the peers bury this worker.
        """
        self._has_left = True  # a listener that reconnects takes no seat any more
        self._pool.hurry(limit)
        try:
            with trio.fail_after(limit):
                await calls.make(lambda connection: seats.leave_seat(connection, self._id))
        except Exception as error:  # noqa: BLE001 - whatever it is, see passing.py
            log.warning("could not tell the other workers that this one leaves: %s", reason(error))

    async def _next(self, connection: Connection[TupleRow]) -> Seat | None:
        peers = await seats.next_workers(connection, self._id)
        self._crowds = await seats.crowds(connection, self._flow_slugs) if peers else {}
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
        """Have the server cancel the wait. The session stays: it may be our only sign of life.

        A cancel request that arrives before its query does nothing, so it is repeated.
        """
        while (session := self._waiting) is not None:
            async with self._cutting:
                if session is self._waiting:  # it may have changed while the lock was taken
                    with suppress(psycopg.Error):
                        await session.cancel_safe()
            await trio.sleep(0.1)

    async def _watch(self, peer: Seat) -> None:
        """Wait until the seat is free. Then bury the peer, if it is dead rather than absent."""
        wait, written = 0.0, 0
        while not self._overtaken.is_set():
            state, xid = await self._watching.make(partial(self._await_seat, peer, wait))
            if state == "taken":
                self._seen.add(peer)
                wait = self._time_to_wait(is_written=xid != written)
                written = xid
                if wait <= 0:  # absent peers should be back by now
                    break
            elif state == "free" and peer not in self._seen and not self._grace_is_over():
                self._absent[peer] = self._grace_ends()
                break
            elif state in {"free", "freed"}:
                if not await self._watching.make(partial(self._bury, peer, self._connected_at)):
                    self._absent[peer] = trio.current_time() + DOUBT
                break

    def _time_to_wait(self, *, is_written: bool) -> float:
        """Seconds that the next wait may last."""
        wait = RENEWAL if is_written else self._settings.check_interval
        return min(wait, self._returns() - trio.current_time())

    def _returns(self) -> float:
        """When to look again at the first of the absent peers."""
        return min(self._absent.values(), default=inf)

    async def _bury(
        self, peer: Seat, connected_at: float, connection: Connection[TupleRow]
    ) -> bool:
        # What this worker saw before it lost the server no longer counts.
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
            async with self._cutting:  # a cancel request under way must not hit the next statement
                pass

    async def _on_connect(self, connection: Connection[TupleRow]) -> None:
        if self._is_in_doubt(connection):
            raise LeadsToPooler
        self._connected_at = trio.current_time()
        self._seen.clear()
        self._absent.clear()
        await connection.execute(NO_TIMEOUTS)
        if self._is_pooled:
            await seats.hold_worker_lock(connection, self._id)
            with suppress(psycopg.Error):  # not all systems support it
                await connection.execute(CHECK_CLIENT)
