"""How a connection waits: for its socket, for its turn, and a little longer when cancelled.

It uses only what psycopg documents, except for the generators that connect. They yield a
descriptor and what they wait for: 1 to read, 2 to write, 3 for either.
"""

import select
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TypeVar, TypeVarTuple, cast

import psycopg
import trio
from psycopg.abc import RV, PQGenConn

T = TypeVar("T")
Args = TypeVarTuple("Args")

READ, WRITE = 1, 2

# The seconds that an operation of this task may still take after it was cancelled.
cancel_limit: ContextVar[float] = ContextVar("cancel_limit", default=0.0)


async def patiently(wait: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
    """Await. Within :meth:`Connection.persist`, a cancellation only starts a time limit."""
    try:
        return await wait(*args)
    except trio.Cancelled:
        if not (limit := cancel_limit.get()):
            raise
        with trio.move_on_after(limit, shield=True):
            return await wait(*args)
        raise


def _always() -> bool:
    """Say that the descriptor is open: no other task can close it."""
    return True


async def until_ready(fd: int, want: int, is_open: Callable[[], bool] = _always) -> int:
    """Wait until `fd` is ready for something in `want`, and return for what.

    After `fd` was closed, another connection may have its number. So `is_open` is called before
    each wait.
    """
    if not is_open():
        raise trio.ClosedResourceError
    if want == READ:  # the answer to a query: nearly always
        await trio.lowlevel.wait_readable(fd)
        return READ
    if ready := _ready_now(fd) & want:  # a socket nearly always takes more
        return ready
    if want == WRITE:
        await trio.lowlevel.wait_writable(fd)
        return WRITE
    return await _until_either(fd, is_open)


def _ready_now(fd: int) -> int:
    """What `fd` is ready for without waiting: for both, if the other side hung up."""
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLOUT)
    event = sum(event for _, event in poll.poll(0))
    return READ * bool(event & ~select.POLLOUT) | WRITE * bool(event & ~select.POLLIN)


async def _until_either(fd: int, is_open: Callable[[], bool]) -> int:
    """Wait until `fd` can be read or written, for which trio has no single call."""
    ready = 0

    async def watch(wait: Callable[[int], Awaitable[None]], flag: int) -> None:
        nonlocal ready
        # Busy: another task, which closes the connection, already waits on the descriptor.
        with suppress(OSError, trio.ClosedResourceError, trio.BusyResourceError):
            if is_open():
                await wait(fd)
                ready |= flag
        nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, trio.lowlevel.wait_readable, READ)
            nursery.start_soon(watch, trio.lowlevel.wait_writable, WRITE)
    except BaseExceptionGroup:  # two Cancelled, where patiently() looks for one
        await trio.lowlevel.checkpoint_if_cancelled()
        raise
    if not ready:
        raise trio.ClosedResourceError
    return ready


async def drive(gen: PQGenConn[RV]) -> RV:
    """Run a generator whose descriptor may change, such as one that connects."""
    try:
        fd, want = next(gen)
        while True:
            fd, want = gen.send(await until_ready(fd, want))
    except StopIteration as stop:
        return cast("RV", stop.value)
    finally:
        gen.close()


@contextmanager
def time_limit(seconds: float, error: psycopg.OperationalError) -> Iterator[None]:
    """Raise `error`, one of psycopg's own, if the block takes longer than `seconds`."""
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise error from None


class ConnectionLock:
    """A fair lock for the tasks that share a connection.

    It differs from :class:`trio.Lock` in two ways. Taking it while it is free is not a schedule
    point, as each query has its own. Another task may release it: trio does so when it finalizes
    a `stream()` that was left half-way.
    """

    def __init__(self) -> None:
        self._semaphore = trio.Semaphore(1, max_value=1)
        self._holder: trio.lowlevel.Task | None = None

    def locked(self) -> bool:
        """Whether a task is using the connection."""
        return self._semaphore.value == 0

    async def __aenter__(self) -> None:
        task = trio.lowlevel.current_task()
        if self._holder is task:
            raise RuntimeError("this task is already using the connection")
        try:
            self._semaphore.acquire_nowait()
        except trio.WouldBlock:
            await patiently(self._semaphore.acquire)
        self._holder = task

    async def __aexit__(self, *_: object) -> None:
        self._holder = None
        self._semaphore.release()
