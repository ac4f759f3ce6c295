"""Ends a process that does not end by itself, from a thread of its own."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic
from typing import NoReturn, Self

log = logging.getLogger("pgflow_events.worker")


class LastResort:
    """Ends the process at a deadline, once it has one. A context: its end removes the deadline.

    Args:
        last_words: Called in the thread right before the process ends.
    """

    def __init__(self, last_words: Callable[[], None] = lambda: None) -> None:
        self._last_words = last_words
        self._deadlines = SimpleQueue[float | None]()

    def __enter__(self) -> Self:
        threading.Thread(target=self._run, name="last resort", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._deadlines.put(None)

    def within(self, seconds: float) -> None:
        """End the process after these seconds. This replaces the deadline before.

        Signal handlers may call it: a `put()` to the queue may interrupt another one.
        """
        self._deadlines.put(monotonic() + seconds)

    def _run(self) -> None:
        deadline: float | None = inf
        while deadline is not None:
            try:
                deadline = self._deadlines.get(timeout=_seconds_until(deadline))
            except Empty:
                self._last_words()
                end_now()


@contextmanager
def overhearing(
    numbers: Collection[int], tell: Callable[[int], None], count: int = 0
) -> Iterator[None]:
    """Report how many of these signals have come, also while the main thread is in C code.

    Python's signal handlers wait until a call into C returns, which a regular expression may never
    do. This thread waits only for code that never releases the interpreter.

    Args:
        numbers: Signals that have a handler.
        tell: Called in the thread, in addition to the handler.
        count: How many signals have come before.
    """
    inlet, outlet = socket.socketpair()
    inlet.setblocking(False)
    loop = signal.set_wakeup_fd(inlet.fileno(), warn_on_full_buffer=False)

    def overhear(count: int) -> None:
        with outlet:
            while data := outlet.recv(4096):
                with suppress(OSError):  # a full socket wakes the loop too
                    os.write(loop, data)
                for _ in filter(numbers.__contains__, data):
                    tell(count := count + 1)

    thread = threading.Thread(target=overhear, args=[count], name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(loop, warn_on_full_buffer=False)  # as trio has set it
        inlet.close()
        thread.join()


def _seconds_until(deadline: float) -> float | None:
    """The seconds until a deadline, for a queue: None means no limit."""
    return None if deadline == inf else max(deadline - monotonic(), 0.0)


def end_within(seconds: float) -> None:
    """End the process after these seconds, unless it has ended before."""
    LastResort().__enter__().within(seconds)


def end_now() -> NoReturn:
    """End the process with exit code 1, without waiting for anything."""
    log.error("something does not end: ending the process without it")
    os._exit(1)
