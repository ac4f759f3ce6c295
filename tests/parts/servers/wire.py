"""A way from a client to the server on which it is counted what they say."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import trio
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from trio.testing import wait_all_tasks_blocked

from pgflow_events.worker.claiming.turns import REST

CALLED = re.compile(r"pg(?:flow\.|flow_queues\.|_)(\w+)")


class Messages:
    """The messages of PostgreSQL's protocol in a stream; only a client's first one has no kind."""

    def __init__(self, *, from_client: bool) -> None:
        self._kind_size = 0 if from_client else 1
        self._rest = b""

    def read(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Kind and body of each that is complete by now."""
        self._rest += data
        while len(self._rest) >= (head := self._kind_size + 4):
            end = self._kind_size + int.from_bytes(self._rest[self._kind_size : head])
            if len(self._rest) < end:
                return
            yield self._rest[: self._kind_size], self._rest[head:end]
            self._rest, self._kind_size = self._rest[end:], 1


class Wire:
    """The way of a worker to the server, where it is counted what they say."""

    def __init__(self, dsn: str) -> None:
        self._target = conninfo_to_dict(dsn)
        self.dsn = ""
        self.counts: Counter[str] = Counter()
        self._asked = self._answered = 0

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        here = {"host": "127.0.0.1", "port": port, "sslmode": "disable", "gssencmode": "disable"}
        self.dsn = make_conninfo("", **(self._target | here))
        task_status.started()
        await trio.serve_listeners(self._serve, [listener])

    async def _serve(self, client: trio.SocketStream) -> None:
        server = await trio.open_unix_socket(f"{self._target['host']}/.s.PGSQL.5432")
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(self._pass_answers, server, client)
            with suppress(trio.BrokenResourceError):  # who is cancelled does not say goodbye
                await self._pass_requests(client, server)
            nursery.cancel_scope.cancel()

    async def _pass_requests(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        messages, prepared, bound = Messages(from_client=True), dict[bytes, str](), ""
        async for data in client:
            for kind, body in messages.read(data):
                first, _, rest = body.partition(b"\0")
                if kind == b"P":
                    prepared[first] = name(rest)
                elif kind == b"B":
                    bound = prepared[rest.partition(b"\0")[0]]
                elif kind in (b"E", b"Q"):
                    self.counts[bound if kind == b"E" else name(first)] += 1
                self._asked += kind in (b"", b"Q", b"S")  # a session's start, a query, Sync
            await server.send_all(data)

    async def _pass_answers(self, server: trio.SocketStream, client: trio.SocketStream) -> None:
        messages = Messages(from_client=False)
        async for data in server:
            for kind, body in messages.read(data):
                if kind == b"Z":
                    self._answered += 1
                    self.counts["round trips"] += 1
                    self.counts["transactions"] += body == b"I"
            await client.send_all(data)

    async def settle(self) -> None:
        """Return when all is answered, and nobody has anything left to do."""
        asked = -1
        while not asked == self._asked == self._answered:
            asked = self._asked
            await wait_all_tasks_blocked(2 * REST)


def name(statement: bytes) -> str:
    """What it calls, or the first word of it."""
    text = statement.partition(b"\0")[0].decode()
    found = CALLED.search(text)
    return f"calls of {found[1] if found else text.split()[0].lower()}"
