"""What the workers run that are told to leave. Each task has one attempt: it must not be lost.

Where the environment says so, a handler says "holding" and waits for the end of stdin; so does what
opens and closes the resources.
"""

import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from pgflow_events import Flow

HOLD = os.environ.get("LEAVING_HOLD", "")
PAGE = "<p>a long page, " * 20_000
MIB = 1024 * 1024

page = Flow("page", max_attempts=1, timeout=600)
brief = Flow("brief", max_attempts=1, timeout=1)
thread = Flow("thread", max_attempts=1, timeout=600)
process = Flow("process", max_attempts=1, timeout=600)
stream = Flow("stream", max_attempts=1, timeout=600)


def say(word: str) -> None:
    print(word, flush=True)  # noqa: T201


async def hold(what: str) -> None:
    if what == HOLD:
        say("holding")
        async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
            await stdin.receive_some()


@page.step(page.input)
async def make(given: str | None) -> str:
    await hold("page")
    return PAGE


@page.step(make)
async def length(text: str) -> int:
    return len(text)


@brief.step(brief.input)
async def hurry(given: None) -> str:
    await hold("brief")
    return "done"


@thread.step(thread.input)
def sit(given: None) -> str:
    if HOLD == "thread":
        say("holding")
        sys.stdin.read()
    return "done"


@process.step(process.input, cpu_bound=True)
def compute(given: None) -> str:
    if HOLD == "process":
        os.write(sys.__stdout__.fileno(), b"holding\n")
        threading.Event().wait()
    return "done"


@stream.step(stream.input)
async def pieces(given: None) -> AsyncIterator[bytes]:
    yield bytes(5 * MIB)
    await hold("stream")
    yield os.urandom(5 * MIB)


@asynccontextmanager
async def resources():
    """Say when they are opened and closed; each takes a schedule point, as real ones do."""
    await hold("open")
    say("open")
    try:
        yield {}
    finally:
        await hold("close")
        await trio.lowlevel.checkpoint()
        say("closed")


FLOWS = (page, brief, thread, process, stream)
