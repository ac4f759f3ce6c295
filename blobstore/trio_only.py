"""Raises an error that says what to do when a call needs trio and trio does not run."""

from typing import TYPE_CHECKING, ClassVar, Never

import trio

from blobstore.errors import BlobMisuse

HOW_TO = (
    "call it with trio.run(...); from asyncio, with await asyncio.to_thread(trio.run, ...);"
    " in the thread of a handler, with trio.from_thread.run(...)"
)


def need_trio(what: str, error: type[Exception] = BlobMisuse) -> None:
    """Check that trio runs in this thread.

    Args:
        what: The call, as the error names it.
        error: The type of the error.

    Raises:
        Exception: Trio does not run. The error is of the given type, and says how to call `what`.
    """
    if not trio.lowlevel.in_trio_run():
        raise error(f"{what} works only in trio: {HOW_TO}")


class AsyncOnly:
    """A base class for objects that need ``async with``. Other uses raise an error."""

    how_to: ClassVar[str] = "async with"
    misuse: ClassVar[type[Exception]] = BlobMisuse

    if not TYPE_CHECKING:  # type checkers know already

        def __enter__(self) -> Never:
            self._refuse("with")

        def __exit__(self, *_: object) -> None: ...

        def __await__(self) -> Never:
            self._refuse("await")

        def __iter__(self) -> Never:
            self._refuse("for")

        def _refuse(self, how: str) -> Never:
            raise self.misuse(f"`{how}` does not work here: use {self.how_to}")
