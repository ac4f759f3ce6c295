"""Calls to the database that are made again until they are answered."""

import logging
import math
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import psycopg
import trio

from pgflow_events.connection import Connection
from pgflow_events.pool import Pool

T = TypeVar("T")

log = logging.getLogger("pgflow_events.calls")

# What the connection or the server is to blame for, and not the call.
PASSING = (psycopg.OperationalError, psycopg.InterfaceError, trio.TooSlowError)
# What is wrong with this connection and will not be with the next: statements that were prepared
# before a migration ("cached plan must not change result type"), a server that became a standby.
STALE = (psycopg.errors.FeatureNotSupported, psycopg.errors.ReadOnlySqlTransaction)
# libpq does not tell the SQLSTATE of a refusal, only the server's words; in another
# language than English they pass for a failure that trying again may mend.
REFUSAL = re.compile(
    r"authentication failed|no password supplied|pg_hba\.conf|not permitted to log in"
    r'|(?:role|database) ".*" does not exist|permission denied for database'
    r"|does not support SSL|certificate verify failed|does not match host name"
    r"|root certificate file"
)
LONGEST_DELAY = 10.0


class Calls:
    """Makes calls on connections of a pool, for as long as it takes.

    A call may be made twice, since the answer to a commit can get lost: it has to be one that
    the second time changes nothing.

    Args:
        pool: Where connections come from.
        timeout: Seconds a call may take, before its connection is given up.
    """

    def __init__(self, pool: Pool, timeout: float) -> None:
        self._pool = pool
        self._timeout = timeout
        self._answered = False
        self.silent_since = math.inf
        """When the first attempt began that has failed since the last answer."""

    async def make(self, call: Callable[[Connection], Awaitable[T]]) -> T:
        """Make a call on some connection.

        Raises:
            psycopg.Error: The call itself is at fault; another try would not help.
        """

        async def attempt() -> T:
            async with self.connection() as connection:
                return await call(connection)

        return await self.repeat(attempt)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection for one attempt of :meth:`repeat`; like :meth:`Pool.connection`."""
        async with self._pool.connection() as connection:
            try:
                yield connection
            except psycopg.Error as error:
                if not (isinstance(error, STALE) or ended_session(error)):
                    raise
                await connection.close()
                raise psycopg.OperationalError(str(error)) from error

    async def repeat(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Await `attempt` until it does not fail for a passing reason, with growing delays.

        Raises:
            psycopg.OperationalError: Before the first answer, a refusal that will not pass: a
                wrong password, an unknown database.
        """
        delay, timeout = 0.05, self._timeout
        while True:
            began = trio.current_time()
            try:
                with trio.fail_after(timeout):
                    answer = await attempt()
            except PASSING as error:
                if not self._answered and REFUSAL.search(str(error)):
                    raise
                self.silent_since = min(self.silent_since, began)
                reason = one_line(error) or f"no answer within {timeout:g} s"
                if isinstance(error, trio.TooSlowError):
                    timeout *= 2  # it may be the size of what is sent, and not the server
                log.warning("the database does not answer, trying again: %s", reason)
            else:
                self._answered, self.silent_since = True, math.inf
                return answer
            await trio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            delay = min(2 * delay, LONGEST_DELAY)


def ended_session(error: psycopg.Error) -> bool:
    """Whether the server closed the connection with this, as it does to who was idle for long.

    Not all such are an OperationalError.
    """
    return error.diag.severity_nonlocalized == "FATAL"


def one_line(error: Exception) -> str:
    """Put what libpq spreads over several lines into one line of a log."""
    return " ".join(str(error).split())
