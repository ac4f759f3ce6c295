"""Handlers that end their process, or spoil what all of it shares."""

import ctypes
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from subprocess import DEVNULL, Popen

import trio
from flows import ask

from pgflow_events import Context, Flow

WORKER = os.getpid()

mortal = Flow("mortal", max_attempts=2, base_delay=0)
once = Flow("once", max_attempts=1)
spoil = Flow("spoil", max_attempts=1)
block = Flow("block", max_attempts=1, timeout=1)

once.step(once.context, once.input)(ask)


def overflow() -> None:
    """End in C, where Python has no limit."""
    value: tuple = ()
    for _ in range(1_000_000):
        value = (value,)
    hash(value)


async def leave_a_nursery_open() -> None:
    nursery = await trio.open_nursery().__aenter__()
    nursery.start_soon(trio.sleep_forever)


DEATHS: dict[str, Callable] = {
    "exit": lambda: os._exit(3),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "abort": os.abort,
    "read from nowhere": lambda: ctypes.string_at(0),
    "overflow": overflow,
    "leave a nursery open": leave_a_nursery_open,
}


@mortal.step(mortal.context, mortal.input)
async def die(context: Context, run: dict) -> None:
    """Die when the door is answered, of what the answer says."""
    if awaited := DEATHS[await ask(context, run)]():
        await awaited


def close_the_standard_files() -> None:
    for descriptor in range(3):
        os.close(descriptor)


def go_where_nothing_is() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)


def ignore_what_ends() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def leave_threads() -> None:
    for _ in range(50):
        threading.Thread(target=threading.Event().wait).start()


def leave_processes() -> None:
    for _ in range(3):
        Popen(["sleep", "20"], stdout=DEVNULL, stderr=DEVNULL, start_new_session=True)


def fork_and_go_on() -> None:
    os.fork()


def fork_and_raise() -> None:
    if os.fork() == 0:
        raise KeyError


def allocate() -> None:
    bytes(8 << 30)


SPOILS: dict[str, Callable[[], None]] = {
    made.__name__: made
    for made in (
        close_the_standard_files,
        go_where_nothing_is,
        ignore_what_ends,
        leave_threads,
        leave_processes,
        fork_and_go_on,
        fork_and_raise,
        allocate,
    )
}


@spoil.step(spoil.input)
async def spoil_in_trio(how: str) -> str:
    SPOILS[how]()
    await trio.lowlevel.checkpoint()
    if os.getpid() != WORKER:
        os.write(2, b"a child went on\n")
    return "done"


@block.step(block.input)
async def block_trio(how: str) -> None:
    """Go on past the timeout without letting others run."""
    time.sleep(2.5)  # noqa: ASYNC251
    await trio.lowlevel.checkpoint()


heir = Flow("heir", timeout=600)


@heir.step(heir.context, heir.input)
async def fork_and_ask(context: object, run: dict) -> str:
    """Leave a child that outlives its parent."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=[run["sleep"]])
    child.start()
    return await ask(context, run)


crunch = Flow("crunch", max_attempts=2, base_delay=0)


@crunch.step(crunch.input, cpu_bound=True)
def square(run: int) -> int:
    """Compute in a process of its own, or let it crash."""
    return run * run if run else os.abort()
