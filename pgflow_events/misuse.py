"""Says what to do when a program mixes up trio, asyncio and blocking code."""

import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from blobstore import trio_only
from pgflow_events.errors import Misuse

# The errors of asyncio's functions in trio, and of a loop that gets an awaitable of the other one.
OTHER_LOOP = re.compile(
    r"no (running|current) event loop|should be used inside a task|determine the parent task"
    r"|received unrecognized yield message|Task got bad yield"
)
NO_LOOP = "must be called from async context"  # the error of trio's functions outside of trio
NOT_ASYNCIO = (
    " (handlers run in trio, not in asyncio: use trio's counterpart, or make the handler a plain"
    " def that calls asyncio.run(...))"
)
NOT_HERE = (
    " (a plain def runs in a thread, outside of trio: make it an async def, or call trio with"
    " trio.from_thread.run(...))"
)

ADVICE = (NOT_ASYNCIO, NOT_HERE)

need_trio = partial(trio_only.need_trio, error=Misuse)


class AsyncOnly(trio_only.AsyncOnly):
    """Something to enter with ``async with``. Any other use raises an error that says so."""

    misuse = Misuse


def advice(error: BaseException, text: str) -> str:
    """The advice to append to the text of an error; empty if nothing was mixed up."""
    kind = type(error)
    if issubclass(kind, RuntimeError | TypeError) and OTHER_LOOP.search(text):
        return NOT_ASYNCIO
    if issubclass(kind, RuntimeError) and text == NO_LOOP:
        return NOT_HERE
    return NOT_ASYNCIO if is_of_asyncio(error) else ""


def is_of_asyncio(error: BaseException) -> bool:
    """Whether asyncio raised the error without a running loop. Not all such errors name a loop."""
    asyncio: Any = sys.modules.get("asyncio")  # code that called it has imported it
    if asyncio is None:
        return False
    folder = Path(asyncio.__file__).parent
    files = list(files_of(error))
    loop = {folder / "base_events.py", folder / "runners.py"}
    return bool(files) and files[-1].is_relative_to(folder) and loop.isdisjoint(files)


def files_of(error: BaseException) -> Iterator[Path]:
    """The files of the functions that an error passed through. The last one raised it."""
    # Not `error.__traceback__`: a class may have replaced the attribute.
    traceback = BaseException.__dict__["__traceback__"].__get__(error)
    while traceback:
        yield Path(traceback.tb_frame.f_code.co_filename)
        traceback = traceback.tb_next
