"""Says what to do when a server is entered with `async with`."""

from typing import TYPE_CHECKING, ClassVar, Never

from pgflow_events.errors import Misuse


class SyncOnly:
    """Something to enter with ``with``. ``async with`` raises an error that says so."""

    how_to: ClassVar[str] = "with"

    if not TYPE_CHECKING:  # type checkers must still refuse `async with`

        async def __aenter__(self) -> Never:
            raise Misuse(f"`async with` does not work here: use {self.how_to}")

        async def __aexit__(self, *_: object) -> None: ...
