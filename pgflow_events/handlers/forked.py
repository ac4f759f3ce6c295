"""Ends a child process that a handler has forked, before it does anything in the worker's name.

A forked child has a copy of the loop: it would run the other tasks a second time. It also shares
the parent's epoll object. An event that the child collects never reaches the parent.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import trio

_loops: list[trio.lowlevel.TrioToken] = []


class _Ending(trio.abc.Instrument):
    """Ends the process where trio goes on after the forking task has yielded."""

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        os._exit(1)

    def before_io_wait(self, timeout: float) -> None:
        os._exit(1)


@contextmanager
def ending_forked_loops() -> Iterator[None]:
    """Let no copy of this loop go on in a child process that is forked within the block."""
    token = trio.lowlevel.current_trio_token()
    _loops.append(token)
    try:
        yield
    finally:
        _loops.remove(token)


def _end_soon() -> None:
    with suppress(RuntimeError):  # no loop runs in the thread that has forked
        if trio.lowlevel.current_trio_token() in _loops:
            trio.lowlevel.add_instrument(_Ending())


os.register_at_fork(after_in_child=_end_soon)
