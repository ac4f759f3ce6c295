"""A way to the server that stops one session at a message of PostgreSQL's protocol.

So a process can be killed at a named point of its life, which it knows nothing of.
"""

from contextlib import suppress
from functools import partial
from typing import Literal

import trio

from ...parts.servers.proxy import Proxy
from ...parts.servers.wire import Messages

FLUSH = b"H", b""

Moment = Literal["asked", "done", "committed"]


class Breakpoint(Proxy):
    """Stops the first session that sends this statement.

    Args:
        dsn: The server.
        statement: A part of its text.
        moment: ``asked``: the server has not got it. ``done``: it has done it, and not committed.
            ``committed``: it has committed, and the answer is on its way.
        skip: How many times the statement may pass before.
    """

    def __init__(self, dsn: str, statement: str, moment: Moment, *, skip: int = 0) -> None:
        super().__init__(dsn)
        self.statement, self.moment, self._skip = statement.encode(), moment, skip
        self.reached = trio.Event()
        self._passed = trio.Event()
        self._dropped = False

    def go_on(self) -> None:
        """Let the session go on."""
        self._passed.set()

    def drop(self) -> None:
        """Close the session, as the kernel does when its process has ended."""
        self._dropped = True
        self._passed.set()

    def matches(self, statement: bytes) -> bool:
        """Whether to stop at this one."""
        if self.reached.is_set() or self.statement not in statement:
            return False
        self._skip -= 1
        return self._skip < 0

    async def stop(self) -> bool:
        """Wait here; whether to go on."""
        self.reached.set()
        await self._passed.wait()
        return not self._dropped

    async def _serve(self, client: trio.SocketStream) -> None:
        server = await self._connect()
        session = Session(self, client, server)
        async with server, client, trio.open_nursery() as nursery:
            for way in (session.requests, session.answers):
                nursery.start_soon(partial(self._until_end, way, nursery.cancel_scope))

    async def _until_end(self, way, session: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await way()
        session.cancel()


class Session:
    """One session, passed on message by message."""

    def __init__(
        self, point: Breakpoint, client: trio.SocketStream, server: trio.SocketStream
    ) -> None:
        self._point, self._client, self._server = point, client, server
        self._prepared: dict[bytes, bytes] = {}
        self._bound = b""
        self._matched = False
        self._pending = 0
        """Statements under way: in a pipeline there may be several."""
        self._executed = trio.Event()

    async def requests(self) -> None:
        """Pass on what the client says."""
        messages = Messages(from_client=True)
        async for data in self._client:
            for kind, body in messages.read(data):
                self._pending += kind in (b"E", b"Q")
                if self._executes(kind, body):
                    if not await self._execute(kind, body):
                        return
                else:
                    await self._server.send_all(packet(kind, body))

    def _executes(self, kind: bytes, body: bytes) -> bool:
        """Whether this runs the statement to stop at."""
        first, _, rest = body.partition(b"\0")
        if kind == b"P":
            self._prepared[first] = rest.partition(b"\0")[0]
        elif kind == b"B":
            self._bound = self._prepared[rest.partition(b"\0")[0]]
        return (kind == b"E" and self._point.matches(self._bound)) or (
            kind == b"Q" and self._point.matches(first)
        )

    async def _execute(self, kind: bytes, body: bytes) -> bool:
        """Pass it on as far as the moment says; whether to go on."""
        if self._point.moment == "asked" and not await self._point.stop():
            return False
        self._matched = self._point.moment != "asked"
        await self._server.send_all(packet(kind, body))
        if self._point.moment == "done":
            await self._server.send_all(packet(*FLUSH))  # a commit comes with what is held back
            await self._executed.wait()
            return await self._point.stop()
        return True

    async def answers(self) -> None:
        """Pass on what the server says."""
        messages = Messages(from_client=False)
        async for data in self._server:
            for kind, body in messages.read(data):
                self._pending = 0 if kind == b"Z" else self._pending - (kind == b"C")
                if self._matched and not self._pending:
                    self._executed.set()
                is_commit = self._matched and kind == b"Z" and body == b"I"
                if is_commit and self._point.moment == "committed":
                    if not await self._point.stop():
                        return
                    self._matched = False
                await self._client.send_all(packet(kind, body))


def packet(kind: bytes, body: bytes) -> bytes:
    """A message as it is sent."""
    return kind + (len(body) + 4).to_bytes(4) + body
