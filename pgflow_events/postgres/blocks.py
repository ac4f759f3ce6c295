"""Transactions, pipelines and cursors: what is opened and closed on a connection.

They are psycopg's. Only their end differs: when the task is cancelled, when the server is gone,
and when other tasks use the connection.
"""

import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, TypeVarTuple, cast

import psycopg
import trio
from psycopg import errors, pq
from psycopg.abc import PQGen
from psycopg.rows import Row

from pgflow_events.postgres.prepared import PreparedStatements

T = TypeVar("T")
Args = TypeVarTuple("Args")

SYNC: Any = object()  # stands in the queue of results for the answer to a Sync

log = logging.getLogger("pgflow_events.blocks")


class Breakable(Protocol):
    """The part of :class:`~pgflow_events.postgres.connection.Connection` that is used here."""

    streamed: bool

    async def persist(self, step: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
        """Await `step` to its end, even when cancelled."""

    async def abort(self) -> None:
        """Stop what the connection is doing on the server, then close it."""


class Transaction(psycopg.AsyncTransaction):
    """A block that finishes without an error if it has committed, and only then."""

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool:
        persist = cast("Breakable", self.connection).persist
        if exc_val is None:
            try:
                await trio.lowlevel.checkpoint_if_cancelled()  # the last chance not to commit
            except BaseException as cancelled:
                await persist(super().__aexit__, type(cancelled), cancelled, None)
                raise
        swallow = await persist(super().__aexit__, exc_type, exc_val, exc_tb)
        if exc_val is None and self.status is self.Status.FAILED:
            raise errors.OperationalError("the connection was closed before the commit")
        return swallow


class Pipeline(psycopg.AsyncPipeline):
    """A pipeline that is entered in one step, as other tasks see it.

    It is left with a Sync, or its connection is closed.

    If a commit fails, a Sync has two answers: the error, and its own. This class counts both.
    psycopg expects one answer: it then either raises "cannot exit pipeline mode while busy", or
    pops from an empty queue.
    """

    async def __aenter__(self) -> Self:
        """Enter it. The caller holds the lock, so other tasks see no pipeline or an open one."""
        await self._conn.wait(self._enter_gen())
        self._conn._pipeline = self
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        try:
            async with self._lock:
                await self._conn.wait(self._exit_gen())
        except Exception as error:
            if exc_val is None:
                raise
            log.warning("error ignored at the end of a pipeline: %s", error)
        except BaseException:
            # Without a Sync the server keeps a transaction open, although libpq reports the
            # connection as idle once all answers are read.
            await cast("Breakable", self._conn).abort()
            raise
        finally:
            self._exit(exc_val)

    def _enter_gen(self) -> PQGen[None]:
        yield from super()._enter_gen()
        if self.level == 1 and cast("Breakable", self._conn).streamed:
            # libpq would give the first answer row by row too. The answer to a Sync has no rows.
            self._enqueue_sync()
            cast("Breakable", self._conn).streamed = False

    def _exit(self, exc: BaseException | None) -> None:
        try:
            super()._exit(exc)
        finally:
            if self.level == 0:
                self._conn._pipeline = None

    def _enqueue_sync(self) -> None:
        super()._enqueue_sync()
        self.result_queue[-1] = SYNC
        cast("PreparedStatements", self._conn._prepared).sync()

    def _process_results(self, queued: Any, results: list[pq.abc.PGresult]) -> None:
        if queued is SYNC:
            queued = None  # psycopg's entry for whatever has no cursor
            if results[0].status == pq.ExecStatus.FATAL_ERROR:
                self.result_queue.appendleft(SYNC)
        try:
            super()._process_results(queued, results)
        except psycopg.Error:
            if queued:  # set it on the cursor too: another task may be reading the answers
                queued[0].pgresult = results[-1]
            raise
        except Exception as error:  # in a row factory: psycopg would lose the following answers
            raise errors.ProgrammingError(f"cannot make rows of an answer: {error}") from error


class Cursor(psycopg.AsyncCursor[Row]):
    """A cursor whose pipeline or connection another task may end before the answer arrives."""

    __slots__ = ()

    def _stream_send_gen(self, *args: Any, **kwargs: Any) -> PQGen[None]:
        cast("Breakable", self._conn).streamed = True
        return super()._stream_send_gen(*args, **kwargs)

    async def _fetch_pipeline(self) -> None:
        if self.pgresult or self._execmany_returning is False:
            return
        self._conn._check_connection_ok()  # rather than "no result available"
        if pipeline := self._conn._pipeline:
            async with self._conn.lock:
                await self._conn.wait(pipeline._fetch_gen(flush=True))


class ServerCursor(psycopg.AsyncServerCursor[Row], Cursor[Row]):
    """A server-side cursor that is always closed, on the server too if the server answers."""

    __slots__ = ()

    async def close(self) -> None:
        """Close the cursor; if cancelled, within the `cancel_limit` of the connection."""
        try:
            await cast("Breakable", self._conn).persist(super().close)
        finally:
            self._close()
