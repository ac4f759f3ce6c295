"""One connection that LISTENs, for as long as the program runs."""

import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable
from random import SystemRandom
from typing import Any, Never, TypeVarTuple

import psycopg
import trio
from psycopg import sql
from psycopg.rows import TupleRow

from pgflow_events.misuse import need_trio
from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.passing import passes, reason
from pgflow_events.postgres.refusals import REFUSAL
from pgflow_events.postgres.waiting import time_limit

log = logging.getLogger("pgflow_events.listener")

Args = TypeVarTuple("Args")

CANCEL_LIMIT = 1.0  # seconds: over a dead link, even a cancel request would take longer
LISTEN_TIMEOUT = 10.0  # seconds
FIRST_DELAY, LAST_DELAY = 0.1, 10.0  # seconds between attempts, without the jitter
MAX_CHANNEL = 63  # bytes; LISTEN silently cuts off longer names

# Forked workers would share the state of `random`, and reconnect all at once.
jitter = SystemRandom()


class Listener:
    """Keeps one connection LISTENing. While nothing happens, it sends no query.

    Notifications are lost while nobody listens. So `on_connect` is called after each LISTEN has
    committed, to look at once for missed events. The callbacks run in the listener's task:
    they must be quick, and an error that they raise ends :meth:`run`. After :meth:`run` was
    cancelled, it may be called again.

    Args:
        dsn: A DSN that leads to the server itself, not to a pooler.
        channels: Channel names, as `pg_notify()` takes them.
        on_notify: Called with the channel of each notification.
        on_connect: Called when notifications may have been missed.
        on_listen: Awaited with the connection once it listens, before `on_connect`, for up to
            10 seconds: takes locks, for example, that belong to the same session.
        on_lost: Called when the connection is lost, and after each failure to connect.
        **connect_kwargs: Given to :meth:`Connection.connect`.

    Raises:
        ValueError: The name of a channel is longer than 63 bytes.
    """

    def __init__(
        self,
        dsn: str,
        channels: Iterable[str],
        on_notify: Callable[[str], None],
        on_connect: Callable[[], None],
        *,
        on_listen: Callable[[Connection[TupleRow]], Awaitable[object]] | None = None,
        on_lost: Callable[[], None] = lambda: None,
        **connect_kwargs: Any,
    ) -> None:
        self._check_channel = f"pgflow_check_{secrets.token_hex(8)}"
        self._statement = _listen_statement([*channels, self._check_channel])
        self._dsn, self._connect_kwargs = dsn, connect_kwargs
        self._on_notify, self._on_connect = on_notify, on_connect
        self._on_listen, self._on_lost = on_listen, on_lost
        self._reading = trio.CancelScope()
        self._conn: Connection[TupleRow] | None = None
        self._proven: Connection[TupleRow] | None = None
        self._heard = trio.Event()
        self._delay = FIRST_DELAY

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> Never:
        """Listen until cancelled, and reconnect whenever the connection is lost.

        It has started once it listens for the first time, however long the server takes to
        appear. Between tries it waits 0.1 to 10 seconds, longer each time until it listens.

        Raises:
            psycopg.Error: Before it has started, the server refused us for a reason that does
                not pass, such as a wrong password or an unknown database.
        """
        need_trio("Listener.run()")
        while True:
            try:
                await self._listen(task_status)
            except (psycopg.Error, OSError, MemoryError) as error:
                if self._conn is None and (not passes(error) or REFUSAL.search(str(error))):
                    raise
                self._on_lost()
                pause = self._delay * jitter.uniform(0.5, 1.5)
                log.warning("%s; listening again in %.1f s", reason(error), pause)
            await trio.sleep(pause)
            self._delay = min(2 * self._delay, LAST_DELAY)

    async def _listen(self, task_status: trio.TaskStatus[None]) -> Never:
        async with await Connection.connect(self._dsn, **self._connect_kwargs) as conn:
            conn.cancel_limit = CANCEL_LIMIT
            conn.add_notify_handler(self._hear)
            await self._within_limit(conn.execute, self._statement)
            await self._prepare(conn)
            first, self._conn, self._delay = self._conn is None, conn, FIRST_DELAY
            if first:
                task_status.started()
            while True:
                self._on_connect()
                with self._reading:
                    while True:
                        await conn.read_notifies()
                await self._prepare(conn)

    async def _prepare(self, conn: Connection[TupleRow]) -> None:
        self._reading = trio.CancelScope()  # renew() may be called from here on
        if self._on_listen:
            await self._within_limit(self._on_listen, conn)

    async def _within_limit(self, call: Callable[[*Args], Awaitable[object]], *args: *Args) -> None:
        with time_limit(LISTEN_TIMEOUT, psycopg.OperationalError("no answer to LISTEN")):
            await call(*args)

    def renew(self) -> None:
        """Call `on_listen` again for this session, and then `on_connect`.

        Notifications that arrive meanwhile are handled afterwards.
        """
        self._reading.cancel()

    def _hear(self, notify: psycopg.Notify) -> None:
        if notify.channel == self._check_channel:
            self._heard.set()
        else:
            self._on_notify(notify.channel)

    async def check(self, notify: Callable[[str], Awaitable[object]], limit: float = 5.0) -> bool:
        """Prove that notifications arrive, or drop the connection and open another.

        Args:
            notify: Sends a notification to the given channel, over another connection: a pooler
                may echo what a connection sends to itself. Its errors are raised here, and do
                not count against the listener.
            limit: Seconds that the notification may take to arrive.

        Returns:
            Whether it arrived; `False` at once while there is no connection. If none has ever
            arrived through a pooler, another connection would not help, so this one is kept.
        """
        conn = self._conn
        if conn is None or conn.closed:
            return False
        if self._heard.is_set():  # otherwise another check is waiting, and this one joins it
            self._heard = trio.Event()
        heard = self._heard
        await notify(self._check_channel)
        with trio.move_on_after(limit):
            await heard.wait()
            self._proven = conn
            return True
        if conn.is_pooled and conn is not self._proven:
            return False
        log.warning("a notification did not arrive within %g s: reconnecting", limit)
        await conn.close()
        return False


def _listen_statement(channels: Iterable[str]) -> sql.Composed:
    """Compose a statement that listens on all `channels`, in one round trip."""
    # A server with idle_session_timeout would end this session again and again.
    statements: list[sql.Composable] = [sql.SQL("SET idle_session_timeout = 0")]
    for channel in channels:
        if len(channel.encode()) > MAX_CHANNEL:
            raise ValueError(f"the channel {channel!r} is longer than {MAX_CHANNEL} bytes")
        statements.append(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
    return sql.SQL("; ").join(statements)
