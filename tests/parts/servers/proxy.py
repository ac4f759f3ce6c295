"""A way to the server that can be cut without either side being told."""

from functools import partial

import trio
from psycopg.conninfo import conninfo_to_dict, make_conninfo

REFUSAL = b"SERROR\0VERROR\0C08P01\0Munsupported startup parameter: options\0\0"


class Proxy:
    """Listens on 127.0.0.1 and passes everything on to the server of *dsn*.

    Args:
        dsn: The server, on a unix socket or by TCP.
        refuse: What in a client's first packet gets it the refusal of PgBouncer.
    """

    def __init__(self, dsn: str, *, refuse: bytes = b"") -> None:
        self._target = conninfo_to_dict(dsn)
        self._refuse = refuse
        self.silent = False  # swallow everything, in both directions
        self.delay = 0.0  # seconds that what clients send takes, but for their first words
        self.truncate = False  # pass half of what comes next in each session, then close it
        self.dsn = ""
        self._sessions: set[trio.CancelScope] = set()
        self._silenced: set[trio.CancelScope] = set()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        here = {"host": "127.0.0.1", "port": port, "sslmode": "disable", "gssencmode": "disable"}
        self.dsn = make_conninfo("", **(self._target | here))
        task_status.started()
        await trio.serve_listeners(self._serve, [listener])

    async def _serve(self, client: trio.SocketStream) -> None:
        first = await client.receive_some()
        if self._refuse and self._refuse in first:
            await client.send_all(b"E" + (len(REFUSAL) + 4).to_bytes(4) + REFUSAL)
            return
        server = await self._connect()
        async with server, client, trio.open_nursery() as nursery:
            self._sessions.add(nursery.cancel_scope)
            await server.send_all(first)
            for source, sink in ((client, server), (server, client)):
                nursery.start_soon(partial(self._pass_on, source, sink, nursery.cancel_scope))
        self._sessions.remove(nursery.cancel_scope)

    def silence(self) -> None:
        """Swallow from now on what is said in the sessions there are."""
        self._silenced |= self._sessions

    def cut(self) -> None:
        """Close all sessions."""
        for session in self._sessions:
            session.cancel()

    async def _connect(self) -> trio.SocketStream:
        host, port = str(self._target["host"]), int(self._target.get("port") or 5432)
        if host.startswith("/"):
            return await trio.open_unix_socket(f"{host}/.s.PGSQL.{port}")
        return await trio.open_tcp_stream(host, port)

    async def _pass_on(
        self, source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope
    ) -> None:
        try:
            async for data in source:
                await trio.sleep(self.delay)
                if self.truncate:
                    await sink.send_all(data[: len(data) // 2])
                    break
                if not self._is_silent(both):
                    await sink.send_all(data)
        except trio.BrokenResourceError:
            pass
        if not self._is_silent(both):  # else the other side is not to know
            both.cancel()

    def _is_silent(self, session: trio.CancelScope) -> bool:
        return self.silent or session in self._silenced
