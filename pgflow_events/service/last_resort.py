"""The end of a process that does not end by itself: from a thread, whatever its others do."""

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
    """Ends the process at its deadline, if it has one. A context that leaves it without.

    Args:
        last_words: Called in the thread right before the end.
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
        """End the process after these seconds, and not when was said before.

        For signal handlers too: the queue is one that may be put to while it is being put to.
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
    """Tell how many of these signals have come, also while the main thread is in C code.

    There its handlers wait for the call to return, which a regular expression or a computation may
    never do. Only code that keeps the interpreter for itself keeps this thread from it, too.

    Args:
        numbers: Signals that have a handler.
        tell: Called in a thread, besides the handler.
        count: How many have come before.
    """
    inlet, outlet = socket.socketpair()
    inlet.setblocking(False)
    loop = signal.set_wakeup_fd(inlet.fileno(), warn_on_full_buffer=False)

    def overhear(count: int) -> None:
        with outlet:
            while data := outlet.recv(4096):
                with suppress(OSError):  # it is full, and wakes the loop as it is
                    os.write(loop, data)
                for _ in filter(numbers.__contains__, data):
                    tell(count := count + 1)

    thread = threading.Thread(target=overhear, args=[count], name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(loop)
        inlet.close()
        thread.join()


def _seconds_until(deadline: float) -> float | None:
    """As a queue takes them: None is for ever."""
    return None if deadline == inf else max(deadline - monotonic(), 0.0)


def end_within(seconds: float) -> None:
    """End the process after these seconds, if it is there then."""
    LastResort().__enter__().within(seconds)


def end_now() -> NoReturn:
    """End the process with exit code 1, without waiting for anything."""
    log.error("something does not end: ending the process without it")
    os._exit(1)
