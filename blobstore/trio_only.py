"""Says what to do where something asynchronous is called and trio does not run."""

from typing import TYPE_CHECKING, ClassVar, Never

import trio

from blobstore.errors import BlobMisuse

HOW_TO = (
    "call it with trio.run(...); from asyncio, with await asyncio.to_thread(trio.run, ...);"
    " in the thread of a handler, with trio.from_thread.run(...)"
)


def need_trio(what: str, error: type[Exception] = BlobMisuse) -> None:
    """See that trio runs, in this thread.

    Raises:
        Exception: It does not. It is the given error, and says how to call `what`.
    """
    if not trio.lowlevel.in_trio_run():
        raise error(f"{what} works only in trio: {HOW_TO}")


class AsyncOnly:
    """What is entered by ``async with``, and says so where it is used otherwise."""

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
