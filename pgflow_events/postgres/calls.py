"""Calls to the database that are repeated until the server answers."""

import logging
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import psycopg
import trio

from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.passing import (
    Verdict,
    is_answer,
    needs_another_session,
    passes,
    reason,
    verdict_of,
)
from pgflow_events.postgres.pool import Pool
from pgflow_events.postgres.refusals import REFUSAL, has_lasted

T = TypeVar("T")

log = logging.getLogger("pgflow_events.calls")

FIRST_DELAY, LONGEST_DELAY = 0.05, 10.0  # seconds between tries, without the jitter
TRIES = 3  # in other sessions, after errors that are mostly the fault of one session


class Calls:
    """Makes calls on connections of a pool, for as long as it takes.

    The answer to a commit can get lost, so a call may be made twice: the second time it must
    change nothing. :mod:`pgflow_events.postgres.passing` says which errors pass.

    Args:
        pool: Lends the connections.
        timeout: Seconds that a call may take before its connection is given up.
    """

    def __init__(self, pool: Pool, timeout: float) -> None:
        self._pool = pool
        self._timeout = timeout
        self._answered = False
        self.silent_since = math.inf
        """When the first try began that has failed since the last answer; inf if none has."""

    async def make(
        self,
        call: Callable[[Connection], Awaitable[T]],
        again: Callable[[Exception], bool] = passes,
    ) -> T:
        """Make a call on a connection.

        Args:
            call: Uses the connection.
            again: Whether to try again after this error.

        Raises:
            psycopg.Error: The call itself is at fault; another try would not help.
        """
        return await self.repeat(lambda: self._call(call), again)

    async def make_once(
        self, call: Callable[[Connection], Awaitable[T]], time_factor: float = 1.0
    ) -> T:
        """Make a call on a connection, and do not repeat it.

        Args:
            call: Uses the connection.
            time_factor: Multiplies the timeout of the call.

        Raises:
            psycopg.Error: The call failed. `passing.passes` says whether to try again.
            trio.TooSlowError: The server did not answer in time.
        """
        return await self._once(lambda: self._call(call), time_factor * self._timeout)

    async def _call(self, call: Callable[[Connection], Awaitable[T]]) -> T:
        async with self.connection() as connection:
            return await call(connection)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection for one try of :meth:`repeat`; like :meth:`Pool.connection`."""
        async with self._pool.connection() as connection:
            try:
                yield connection
            except psycopg.Error as error:
                if needs_another_session(error):
                    await connection.close()
                    await self._pool.close_idle()  # those sessions may be just as old
                raise

    async def repeat(
        self, attempt: Callable[[], Awaitable[T]], again: Callable[[Exception], bool] = passes
    ) -> T:
        """Await `attempt` again while it fails for a reason that passes, with growing delays.

        Raises:
            psycopg.OperationalError: Before its first answer, the server refused us for a reason
                that does not pass, such as a wrong password or an unknown database.
            psycopg.Error: The call itself is at fault; another try would not help.
        """
        delay, timeout, doubts = FIRST_DELAY, self._timeout, 0
        while True:
            try:
                return await self._once(attempt, timeout)
            except Exception as error:
                doubts += verdict_of(error) is Verdict.DOUBTFUL
                if not again(error) or doubts > TRIES or self._is_refusal(error):
                    raise
                complain(error)
                if isinstance(error, trio.TooSlowError):
                    timeout *= 2  # the call may send much, rather than the server be slow
            await trio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            delay = min(2 * delay, LONGEST_DELAY)

    async def _once(self, attempt: Callable[[], Awaitable[T]], seconds: float) -> T:
        began = trio.current_time()
        try:
            with trio.fail_after(seconds):
                answer = await attempt()
        except Exception as error:
            if passes(error) and not is_answer(error):
                self.silent_since = min(self.silent_since, began)
            if isinstance(error, trio.TooSlowError) and not str(error):
                raise trio.TooSlowError(f"no answer within {seconds:g} s") from None
            raise
        self._answered, self.silent_since = True, math.inf
        return answer

    def _is_refusal(self, error: Exception) -> bool:
        silence, words = trio.current_time() - self.silent_since, str(error)
        return not self._answered and bool(REFUSAL.search(words) or has_lasted(words, silence))


def complain(error: Exception) -> None:
    """Log that a call failed for a reason that passes, and is repeated."""
    what = "refuses a call" if is_answer(error) else "does not answer"
    log.warning("the database %s, trying again: %s", what, reason(error))
