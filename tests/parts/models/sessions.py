"""Several sessions of one database, each with the calls of the SQL core."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Barrier
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import namedtuple_row

from .core import Core

WAITING = """
select from pg_stat_activity where pid = %s and wait_event_type = any(%s) and state = 'active'
"""


@contextmanager
def sessions(database: str, number: int) -> Iterator[list[Core]]:
    """So many sessions, which commit each statement."""
    with ExitStack() as stack:
        connections = [
            psycopg.connect(database, autocommit=True, row_factory=namedtuple_row)
            for _ in range(number)
        ]
        yield [Core(stack.enter_context(connection)) for connection in connections]


@contextmanager
def meanwhile(call: Callable[..., Any], *arguments: Any) -> Iterator[Future[Any]]:
    """Make a call in a thread."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(call, *arguments)


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Make the calls in threads that begin together; what they return."""
    barrier = Barrier(len(calls))

    def begin(call: Callable[[], Any]) -> Any:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [made.result() for made in [pool.submit(begin, call) for call in calls]]


def until_waiting(observer: Core, session: Core, *events: str) -> None:
    """Return once the session waits for a lock, or for one of these kinds of events."""
    pid, kinds = session.db.info.backend_pid, list(events or ["Lock"])
    deadline = time.monotonic() + 10
    while not observer.rows(WAITING, pid, kinds):
        assert time.monotonic() < deadline, f"session {pid} does not wait for {kinds}"
        time.sleep(0.002)  # PostgreSQL tells nobody that a session has begun to wait


def lapsed(core: Core, attempts: int = 9) -> UUID:
    """A run whose only task was claimed, and whose message is visible again."""
    core.flow("a", max_attempts=attempts)
    run = core.start()
    core.claim()
    core.lapse()
    return run
