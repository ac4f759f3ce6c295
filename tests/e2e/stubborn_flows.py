"""Handlers that do what handlers should not. They knock at the test's door first."""

import hashlib
import socket
import sys
import threading
from contextlib import asynccontextmanager, suppress

import trio

from pgflow_events import Flow

hang = Flow("hang", timeout=60)
deaf = Flow("deaf", timeout=60)
endless = Flow("endless", timeout=60)
computes = Flow("computes", timeout=600)


def knock(door: str) -> socket.socket:
    knocking = socket.socket(socket.AF_UNIX)
    knocking.connect(door)
    return knocking


@hang.step(hang.input)
async def block(run: dict) -> str:
    """Block the loop until the door is answered."""
    with knock(run["door"]) as door:
        return door.recv(100).decode()


@computes.step(computes.input)
async def compute(run: dict) -> None:
    """Be in C code for ever, where no handler of a signal is run."""
    begun = threading.Lock()
    begun.acquire()
    door = knock(run["door"])

    def leave() -> None:
        with begun:
            door.close()

    threading.Thread(target=leave, daemon=True).start()
    sys.setswitchinterval(1000)  # no other thread runs before the computation lets it
    begun.release()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)


@deaf.step(deaf.input)
async def swallow(run: dict) -> None:
    """Never heed a cancellation."""
    with knock(run["door"]):
        while True:
            with suppress(trio.Cancelled):
                await trio.sleep_forever()


@endless.step(endless.input)
def wait(run: dict) -> None:
    """Sit in a thread for ever."""
    with knock(run["door"]):
        threading.Event().wait()


@asynccontextmanager
async def never_closed():
    """Hang when the worker leaves."""
    yield {}
    await trio.sleep_forever()


@asynccontextmanager
async def left_behind():
    """Leave a thread that Python waits for."""
    threading.Thread(target=threading.Event().wait).start()
    yield {}
