"""Notices that trio's event loop stood still, and finds out from a thread which code held it up.

It measures each round of the loop: from the end of one wait for I/O to the beginning of the next.
The thread looks twenty times a second while the loop makes rounds, and sleeps otherwise.
"""

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from time import perf_counter
from traceback import FrameSummary
from types import FrameType
from typing import Self

import trio

LIMIT = 0.1  # seconds that a round may take
LOOK = LIMIT / 2  # seconds between two looks of the thread
LONG = 5.0  # seconds after which a round is reported before it has ended
LINGER = 20  # looks without a round, after which the thread sleeps


@dataclass(frozen=True, slots=True)
class Sight:
    """What ran when the thread looked."""

    task: trio.lowlevel.Task | None
    stack: Sequence[FrameSummary]
    """Its calls, the outermost first."""


@dataclass(frozen=True, slots=True)
class Standstill:
    """A time in which no other task could run."""

    seconds: float
    sights: Sequence[Sight]
    """Empty if no task is to blame: other threads or processes kept the interpreter or the CPU."""
    collecting: float = 0.0
    """The part of the seconds in which Python collected garbage."""
    over: bool = True


class LoopWatch(trio.abc.Instrument):
    """Watches the loop that it is entered in.

    Args:
        report: Called with each standstill when it is over, in the loop's thread; and with one
            that exceeds `LONG` seconds once before its end, in the watching thread.
        matters: Returns whether a standstill would matter now.
    """

    def __init__(self, report: Callable[[Standstill], None], matters: Callable[[], object]) -> None:
        self._report, self._matters = report, matters
        self._began = self._expected = self._told = inf
        self._sights: list[Sight] = []
        self._seen = -inf  # the round in which they were taken
        self._collections: list[tuple[float, float]] = []
        self._bell, self._asleep, self._closed = threading.Event(), False, False

    def __enter__(self) -> Self:
        self._root = trio.lowlevel.current_root_task()
        self._ident = threading.get_ident()
        self._cpu_clock = _cpu_clock(self._ident)
        gc.callbacks.append(self._note_collection)
        self._thread = threading.Thread(target=self._look_on, name="loop watch", daemon=True)
        self._thread.start()
        trio.lowlevel.add_instrument(self)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(KeyError):
            trio.lowlevel.remove_instrument(self)
        gc.callbacks.remove(self._note_collection)
        self._closed = True
        self._bell.set()
        self._thread.join(LIMIT)

    # The next two methods run in each round, and cost half a microsecond.

    def before_io_wait(self, timeout: float) -> None:
        """End a round."""
        now = perf_counter()
        if now - self._began >= LIMIT:
            sights = self._sights if self._seen == self._began else []
            self._tell(self._began, now, sights)
        self._began, self._expected = inf, now + timeout

    def after_io_wait(self, timeout: float) -> None:
        """Begin a round."""
        self._began = now = perf_counter()
        if now - self._expected >= LIMIT:
            self._tell(self._expected, now, [])
        if self._asleep and self._matters():
            self._asleep = False
            self._bell.set()

    def _tell(self, began: float, now: float, sights: Sequence[Sight], over: bool = True) -> None:
        collecting = sum(seconds for start, seconds in self._collections if start >= began)
        if over:
            self._collections.clear()
        self._report(Standstill(now - began, list(sights), collecting, over))

    def _note_collection(self, phase: str, info: dict[str, int]) -> None:
        if info["generation"] < 2:  # noqa: PLR2004 - these are short
            return
        if phase == "start":
            self._collection_began = perf_counter()
        elif (seconds := perf_counter() - self._collection_began) >= LOOK:
            self._collections.append((self._collection_began, seconds))

    # The following methods run in the watching thread.

    def _look_on(self) -> None:
        in_vain, looked, cpu = 0, perf_counter(), time.clock_gettime(self._cpu_clock)
        while not self._closed:
            if in_vain < LINGER:
                self._bell.wait(LOOK)
            else:
                self._sleep()
            before, looked = looked, perf_counter()
            cpu_before, cpu = cpu, time.clock_gettime(self._cpu_clock)
            # If this thread was itself starved of the CPU, its look shows nothing about the loop.
            is_starved = looked - before > 2 * LOOK and cpu - cpu_before < (looked - before) / 10
            in_vain = 0 if self._look(looked, is_starved and in_vain < LINGER) else in_vain + 1

    def _sleep(self) -> None:
        self._bell.clear()
        self._asleep = True
        if self._began == inf or not self._matters():
            self._bell.wait()
        self._asleep = False
        self._bell.clear()

    def _look(self, now: float, is_starved: bool) -> bool:
        """Look at the current round. Return whether there was one."""
        began = self._began
        if now - began >= LOOK and not is_starved:
            self._see(began)
            if now - began >= LONG and self._told != began:
                self._told = began
                self._tell(began, now, self._sights, over=False)
        return began != inf

    def _see(self, began: float) -> None:
        if self._seen != began:
            self._sights, self._seen = [], began
        task = _running_task(self._root)
        known = next((sight.stack for sight in self._sights if sight.task is task), None)
        stack = known or _calls(sys._current_frames().get(self._ident))  # noqa: SLF001 - documented
        if self._began == began:
            self._sights.append(Sight(task, stack))


def _cpu_clock(thread: int) -> int:
    """The CPU-time clock of a thread; of the process, where threads have none."""
    if hasattr(time, "pthread_getcpuclockid"):
        return time.pthread_getcpuclockid(thread)
    return time.CLOCK_PROCESS_CPUTIME_ID


def _running_task(root: trio.lowlevel.Task | None) -> trio.lowlevel.Task | None:
    """The task that runs now, while no other task can."""
    return next((task for task in _tasks(root) if getattr(task.coro, "cr_running", False)), None)


def _tasks(root: trio.lowlevel.Task | None) -> Iterator[trio.lowlevel.Task]:
    """`root` and all tasks below it."""
    left = [root] if root else []
    while left:
        yield (task := left.pop())
        left.extend(child for nursery in task.child_nurseries for child in nursery.child_tasks)


def _calls(frame: FrameType | None) -> list[FrameSummary]:
    """The calls that led to a frame, the outermost first, up to those of trio's loop."""
    found = []
    while frame and frame.f_code.co_name != "unrolled_run":
        code = frame.f_code
        found.append(
            FrameSummary(code.co_filename, frame.f_lineno, code.co_name, lookup_line=False)
        )
        frame = frame.f_back
    return found[::-1]
