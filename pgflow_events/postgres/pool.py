"""A pool of connections, opened as they are needed."""

import logging
import select
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

import psycopg
import trio
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from pgflow_events.errors import Misuse
from pgflow_events.misuse import AsyncOnly, need_trio
from pgflow_events.postgres.connection import Connection

log = logging.getLogger("pgflow_events.pool")

IN_TRANSACTION = {TransactionStatus.INTRANS, TransactionStatus.INERROR}


class Pool(AsyncOnly):
    """At most `max_size` connections, shared by any number of tasks.

    Connections are opened on demand and reused last in, first out, so that superfluous ones
    stay untouched until :meth:`close_untouched`; there is no background task. A connection that
    broke, or was left in the middle of something, is dropped; an open transaction is rolled back.
    Other state of the session (`SET`, `LISTEN`, temporary tables) is not reset.

    Args:
        dsn: A DSN as libpq understands it.
        max_size: Connections open at a time, by default 8.
        timeout: Seconds (30) to wait for a connection when all are in use.
        on_connect: Awaited with each new connection, to set up the session.
        **connect_kwargs: Given to :meth:`Connection.connect`.
    """

    how_to = "async with Pool(dsn) as pool: ..."

    def __init__(
        self,
        dsn: str,
        *,
        max_size: int = 8,
        timeout: float = 30.0,
        on_connect: Callable[[Connection[TupleRow]], Awaitable[object]] | None = None,
        **connect_kwargs: Any,
    ) -> None:
        self.dsn = dsn
        self.max_size = max_size
        self.timeout = timeout
        self._on_connect, self._connect_kwargs = on_connect, connect_kwargs
        self._slots = trio.Semaphore(max_size, max_value=max_size)
        self._idle: list[Connection[TupleRow]] = []
        self._untouched = 0
        """How many of the idle ones were idle all the time since :meth:`close_untouched`."""
        self._opened = WeakSet[Connection[TupleRow]]()
        self._cancel_limit: float | None = None
        self._open = False

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self._open = False
        await self.close_idle()

    async def close_idle(self) -> None:
        """Close the connections that nobody uses; later users get new ones."""
        while self._idle:
            await self._idle.pop().close()

    async def close_untouched(self) -> None:
        """Close the connections that nobody has used since the last call, except for one."""
        superfluous = self._idle[: max(0, min(self._untouched, len(self._idle) - 1))]
        del self._idle[: len(superfluous)]
        self._untouched = len(self._idle)
        for conn in superfluous:
            await conn.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection[TupleRow]]:
        """Lend a connection to the block.

        Raises:
            trio.TooSlowError: No connection became free within `timeout` seconds.
            psycopg.OperationalError: A new connection was needed and could not be opened.
            Misuse: The pool is not open, or trio does not run.
        """
        need_trio("Pool.connection()")
        if not self._open:
            raise Misuse("the pool is closed: use it, or its client, within `async with`")
        await self._acquire_slot()
        try:
            conn = await self._take()
            try:
                yield conn
            finally:
                await self._give_back(conn)
        finally:
            self._slots.release()

    def hurry(self, limit: float) -> None:
        """Limit the cleaning-up after a cancellation to `limit` seconds, from now on."""
        self._cancel_limit = limit
        for conn in self._opened:
            conn.cancel_limit = limit

    async def _acquire_slot(self) -> None:
        with trio.move_on_after(self.timeout):
            return await self._slots.acquire()
        raise trio.TooSlowError(
            f"none of the {self.max_size} connections became free in {self.timeout:g} s"
        )

    async def _take(self) -> Connection[TupleRow]:
        while self._idle:
            conn = self._idle.pop()
            self._untouched = min(self._untouched, len(self._idle))
            if not is_stale(conn):
                return conn
            await conn.close()
        return await self._connect()

    async def _connect(self) -> Connection[TupleRow]:
        conn = await Connection.connect(self.dsn, **self._connect_kwargs)
        self._opened.add(conn)
        if self._cancel_limit is not None:
            conn.cancel_limit = self._cancel_limit
        if self._on_connect:
            try:
                await self._on_connect(conn)
            except BaseException:
                await conn.close()
                raise
        return conn

    async def _give_back(self, conn: Connection[TupleRow]) -> None:
        try:
            if conn.info.transaction_status in IN_TRANSACTION and not conn.lock.locked():
                await conn.persist(conn.rollback)
        except psycopg.Error as error:
            log.warning("dropping a connection that cannot be rolled back: %s", error)
        finally:
            if self._open and conn.is_whole:
                self._idle.append(conn)
            else:
                await conn.abort()


def is_stale(conn: Connection[Any]) -> bool:
    """Whether the server hung up: to an idle session it sends nothing else."""
    if conn.closed:
        return True
    poll = select.poll()
    poll.register(conn.fileno(), select.POLLIN)
    return bool(poll.poll(0))
