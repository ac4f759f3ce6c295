"""psycopg 3 on trio: an `AsyncConnection` whose waiting is done by trio.

psycopg writes its protocol as generators that yield what they wait for (1 to read, 2 to
write, 3 either). Of AsyncConnection only the lock, connect(), wait(), cancel_safe() and
the ways to close it know of asyncio; they are replaced here. Cursors, pipeline, COPY,
prepared statements and adaptation are psycopg's own.

In a cancelled scope, trio cancels every await, also those of psycopg's cleaning-up. Hence
one policy: an operation that is cancelled half-way is cancelled on the server too, and its
connection closed. (When it was drained and used again, its cache of prepared statements was
seen to be wrong.) Only the end of a transaction may outlast a cancellation.

Only this module, `connecting.py`, `blocks.py` and `prepared.py` use what psycopg does not
document; a contract test watches it.
"""

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Never, TypeVar, TypeVarTuple, cast

import orjson
import psycopg
import trio
from psycopg import capabilities, errors, pq
from psycopg.abc import RV, PQGen
from psycopg.rows import AsyncRowFactory, Row
from psycopg.types.json import set_json_loads
from psycopg.waiting import Wait

from pgflow_events.postgres.blocks import Cursor, Pipeline, ServerCursor, Transaction
from pgflow_events.postgres.connecting import Connecting
from pgflow_events.postgres.forks import keep_from_children
from pgflow_events.postgres.prepared import PreparedStatements
from pgflow_events.postgres.waiting import (
    WRITE,
    ConnectionLock,
    cancel_limit,
    drive,
    patiently,
    time_limit,
    until_ready,
)

log = logging.getLogger("pgflow_events.connection")

T = TypeVar("T")
Args = TypeVarTuple("Args")

ACTIVE, IDLE = pq.TransactionStatus.ACTIVE, pq.TransactionStatus.IDLE
BUSY_LIMIT = 0.005  # seconds a COPY or a pipeline may go on without letting others run


class Connection(Connecting[Row]):
    """A connection to PostgreSQL for trio, with autocommit, loading JSON by orjson.

    It behaves as psycopg documents `AsyncConnection`, except for `notifies()` (use
    `add_notify_handler()` and :meth:`read_notifies`) and `AsyncQueuedLibpqWriter`.
    Tasks may share a connection; they wait for each other. A query, COPY or pipeline that is
    cancelled half-way is stopped on the server, and the connection is closed. For a time limit
    that the connection should survive, use the server's `statement_timeout`.

    Attributes:
        cancel_limit: Seconds (5) for cleaning up after a cancellation; after that the connection
            is closed in any case.
        streamed: Whether a query was streamed since the last pipeline.
    """

    cancel_limit: float = 5.0
    lock: ConnectionLock  # type: ignore[assignment]  # psycopg's is asyncio's
    streamed = False
    _prepared: PreparedStatements

    def __init__(self, pgconn: pq.abc.PGconn, *args: AsyncRowFactory[Row]) -> None:
        super().__init__(pgconn, *args)
        self.lock = ConnectionLock()
        self.cursor_factory, self.server_cursor_factory = Cursor, ServerCursor
        self._prepared = PreparedStatements()
        self._aborting = False
        self._rested = 0.0
        keep_from_children(self)
        set_json_loads(orjson.loads, context=self)

    # It takes no `timeout`: if psycopg ever passes one, that must raise an error.
    async def wait(self, gen: PQGen[RV], interval: float = 0.0) -> RV:  # type: ignore[override]
        """Run one of psycopg's generators: psycopg talks to the server in this way only."""
        started = False
        try:
            await patiently(trio.lowlevel.checkpoint_if_cancelled)  # nothing is sent so far
            self._check_not_aborting()
            started = True
            fd, want = self.pgconn.socket, next(gen)
            while True:
                ready = await patiently(until_ready, fd, want, self._is_open)
                if want & WRITE:
                    await self._breathe()
                self._check_not_aborting()
                want = gen.send(ready)
        except StopIteration as stop:
            await self._breathe()
            return cast("RV", stop.value)
        except (OSError, trio.ClosedResourceError) as error:
            raise errors.OperationalError("the connection was closed") from error
        except psycopg.Error:
            self._prepared.forget()
            raise
        except (trio.Cancelled, KeyboardInterrupt, BaseExceptionGroup):
            # In a pipeline, queries sent before belong to the task that will end the pipeline.
            if self.pgconn.transaction_status == ACTIVE and (started or not self._pipeline):
                await self.abort()
            raise
        finally:
            with suppress(psycopg.Error, RuntimeError):  # it may want to use the connection
                gen.close()

    def _is_open(self) -> bool:
        return not self.closed

    def _check_not_aborting(self) -> None:
        if self._aborting:
            raise errors.OperationalError("another task is closing the connection")

    @property
    def is_whole(self) -> bool:
        """Whether another task can use the connection: nothing is under way or left open."""
        return (
            self.pgconn.transaction_status == IDLE
            and not self.pgconn.pipeline_status
            and not self._pipeline
            and not self._num_transactions
            and not self.lock.locked()
        )

    async def _breathe(self) -> None:
        """Let other tasks run while a COPY or a pipeline never has to wait."""
        if trio.current_time() - self._rested > BUSY_LIMIT:
            await trio.lowlevel.cancel_shielded_checkpoint()
            self._rested = trio.current_time()

    async def persist(self, step: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
        """Await `step` to its end, even when cancelled.

        After a cancellation, each answer has `cancel_limit` seconds to arrive. Otherwise the
        connection is closed, and the cancellation takes its course.
        """
        token = cancel_limit.set(self.cancel_limit)
        try:
            return await step(*args)
        except trio.Cancelled:
            await self.abort()
            raise
        finally:
            cancel_limit.reset(token)

    async def abort(self) -> None:
        """Stop what the connection is doing on the server, then close it.

        This takes `cancel_limit` seconds at most; a cancellation does not interrupt it.
        """
        if self.pgconn.transaction_status == ACTIVE and not self._aborting:
            self._aborting = True  # another task may be using the connection
            with trio.move_on_after(self.cancel_limit, shield=True):
                await self._stop_query()
        if not self.closed:
            trio.lowlevel.notify_closing(self.pgconn.socket)  # tasks that wait on it give up
            self.pgconn.finish()

    async def _stop_query(self) -> None:
        fd = self.pgconn.socket
        trio.lowlevel.notify_closing(fd)
        # COPY FROM and a pipeline answer only on request; a Sync would also commit.
        with suppress(psycopg.OperationalError):
            if self.pgconn.pipeline_status:
                self.pgconn.send_flush_request()
            else:
                self.pgconn.put_copy_end(b"cancelled")
            self.pgconn.flush()
        try:
            # A request that arrives before its query stops nothing: repeat it until an answer.
            for _ in range(3):
                await self.cancel_safe()
                if self.closed:  # by another task or libpq; the descriptor may be reused by now
                    return None
                trio.lowlevel.notify_closing(fd)  # a task of until_either() may be late
                with trio.move_on_after(0.1):
                    return await trio.lowlevel.wait_readable(fd)
        except (psycopg.Error, OSError, trio.ClosedResourceError) as error:
            if not self.closed:
                log.warning("a query may go on, as it could not be cancelled: %s", error)
        return None

    async def cancel_safe(self, *, timeout: float = 30.0) -> None:  # noqa: ASYNC109  psycopg's
        """Ask the server to cancel what the connection is doing, for `timeout` seconds.

        With a `timeout` of 0 there is no limit.

        Raises:
            psycopg.errors.CancellationTimeout: The server did not answer in time.
        """
        if not self._should_cancel():
            return
        with time_limit(
            timeout or math.inf, errors.CancellationTimeout("cancellation timeout expired")
        ):
            if capabilities.has_cancel_safe():
                await drive(self._cancel_gen())
            else:  # libpq before 17 has only a call that blocks
                cancel = self.pgconn.get_cancel().cancel
                await trio.to_thread.run_sync(cancel, abandon_on_cancel=True)

    async def close(self) -> None:
        """Close the connection. Operations of other tasks on it fail."""
        if not self.closed:
            self._closed = True
            await self.abort()

    async def __aexit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        try:
            if exc_val is None and not self.closed:
                await self.commit()
        finally:
            await self.close()  # the server rolls back

    @asynccontextmanager
    async def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> AsyncIterator[Transaction]:
        """Run a block in a transaction, or in a savepoint within one.

        If cancelled, it either has committed and finishes, or has rolled back and raises: COMMIT
        and ROLLBACK are not interrupted, see :meth:`persist`. (In a pipeline, COMMIT is sent
        with the rest, and a cancellation may leave the result unknown.)
        """
        transaction = Transaction(self, savepoint_name, force_rollback)
        if self._pipeline:
            async with self.pipeline(), transaction, self.pipeline():
                yield transaction
        else:
            async with transaction:
                yield transaction

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[psycopg.AsyncPipeline]:
        """Run a block in a pipeline. Its errors, also of its commit, are raised at its end.

        If cancelled, the connection is closed. The server then undoes what the block did since
        its last Sync, unless the pipeline was ending and its own Sync was under way.
        """
        async with AsyncExitStack() as stack:
            async with self.lock:
                pipeline = await stack.enter_async_context(self._pipeline or Pipeline(self))
            yield pipeline

    @asynccontextmanager
    async def _pipeline_nolock(self) -> AsyncIterator[psycopg.AsyncPipeline]:
        async with Pipeline(self, _no_lock=True) as pipeline:
            yield pipeline

    def end_transaction(self) -> None:
        """In a pipeline, end the transaction: what follows is in another one.

        It waits for nothing: both transactions go to the server together.
        """
        if not self._pipeline:
            raise errors.ProgrammingError("there is no pipeline")
        self._pipeline._enqueue_sync()  # noqa: SLF001 - its own sync() waits for the answers

    def notifies(self, *, timeout: float | None = None, stop_after: int | None = None) -> Never:
        """Not supported: it would keep the connection between two notifications."""
        raise errors.NotSupportedError("use add_notify_handler() and read_notifies()")

    async def read_notifies(self) -> None:
        """Wait for notifications and pass them to the handlers. Queries wait meanwhile.

        Raises:
            psycopg.OperationalError: The connection is lost, or was closed by another task.
        """
        async with self.lock:
            await self.wait(self._notifies_gen())

    def _notifies_gen(self) -> PQGen[None]:
        handle = cast("Callable[[pq.PGnotify], None]", self.pgconn.notify_handler)
        while not (notify := self.pgconn.notifies()):  # one may have arrived with an answer
            yield Wait.R
            self.pgconn.consume_input()
        while notify:
            handle(notify)
            notify = self.pgconn.notifies()
