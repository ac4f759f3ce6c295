"""Says what to do where trio, asyncio and what is not asynchronous are mixed up."""

import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Never

from blobstore import trio_only
from pgflow_events.errors import Misuse

# What functions of asyncio say in trio, and what a loop says that is given the other one's.
OTHER_LOOP = re.compile(
    r"no (running|current) event loop|should be used inside a task|determine the parent task"
    r"|received unrecognized yield message|Task got bad yield"
)
NO_LOOP = "must be called from async context"  # trio's
NOT_ASYNCIO = (
    " (handlers run in trio, not in asyncio: use trio's counterpart, or make the handler a plain"
    " def that calls asyncio.run(...))"
)
NOT_HERE = (
    " (a plain def runs in a thread, outside of trio: make it an async def, or call what is trio's"
    " by trio.from_thread.run(...))"
)

ADVICE = (NOT_ASYNCIO, NOT_HERE)

need_trio = partial(trio_only.need_trio, error=Misuse)


class AsyncOnly(trio_only.AsyncOnly):
    """What is entered by ``async with``, and says so where it is used otherwise."""

    misuse = Misuse


class SyncOnly:
    """What is entered by ``with``, and says so where it is used otherwise."""

    how_to: ClassVar[str] = "with"

    if not TYPE_CHECKING:  # type checkers know already

        async def __aenter__(self) -> Never:
            raise Misuse(f"`async with` will not do here: {self.how_to}")

        async def __aexit__(self, *_: object) -> None: ...


def advice(error: BaseException, text: str) -> str:
    """What to say after the text of an error that comes of mixing up trio and asyncio."""
    kind = type(error)
    if issubclass(kind, RuntimeError | TypeError) and OTHER_LOOP.search(text):
        return NOT_ASYNCIO
    if issubclass(kind, RuntimeError) and text == NO_LOOP:
        return NOT_HERE
    return NOT_ASYNCIO if is_of_asyncio(error) else ""


def is_of_asyncio(error: BaseException) -> bool:
    """Whether asyncio raised it that was not running: not all it says then speaks of a loop."""
    asyncio: Any = sys.modules.get("asyncio")  # who called it has imported it
    if asyncio is None:
        return False
    folder = Path(asyncio.__file__).parent
    files = list(files_of(error))
    loop = {folder / "base_events.py", folder / "runners.py"}
    return bool(files) and files[-1].is_relative_to(folder) and loop.isdisjoint(files)


def files_of(error: BaseException) -> Iterator[Path]:
    """The files of the functions that an error went through, the one that raised it last."""
    # Not as an attribute, which a class may have replaced.
    traceback = BaseException.__dict__["__traceback__"].__get__(error)
    while traceback:
        yield Path(traceback.tb_frame.f_code.co_filename)
        traceback = traceback.tb_next
