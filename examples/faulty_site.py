"""A web site on this machine that has the faults of real ones: `scrape_site.py --demo` scrapes it.

One of its pages is gone, one fails the first time, one is silent the first time, and one is not for
robots.
"""

import os
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import trio

PAGES = 100
GONE, BROKEN, SLOW, PRIVATE = {"/page/13"}, "/page/42", "/page/77", "/private/1"

ROBOTS = "User-agent: *\nDisallow: /private/\n"
ENTRY = "<url><loc>{}</loc></url>\n"
SITEMAP = '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{}</urlset>\n'
PAGE = """<html><head><title>Page {0} &amp; its neighbours</title></head>
<body><p>Behind <a href="/page/{1}">page {1}</a> comes <a href="/page/{2}">page {2}</a>.</p>
<p>{3}</p></body></html>
"""


class FaultySite:
    """The site.

    Attributes:
        address: Its URL, without a path.
        asked: How often it was asked for each path.
    """

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.asked: Counter[str] = Counter()

    async def answer(self, stream: trio.SocketStream) -> None:
        """Answer one request, and close the connection."""
        async with stream:
            with suppress(trio.BrokenResourceError, IndexError):  # a visitor may leave before
                await self.talk(stream)

    async def talk(self, stream: trio.SocketStream) -> None:
        """Read a request and answer it."""
        path = (await stream.receive_some()).split()[1].decode()
        self.asked[path] += 1
        if path == SLOW and self.asked[path] == 1:
            await stream.receive_some()  # until the visitor leaves
        status, body = self.find(path)
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        await stream.send_all(head.encode() + body.encode())

    def find(self, path: str) -> tuple[str, str]:
        """The status and the content of a path."""
        if path == "/robots.txt":
            return "200 OK", ROBOTS
        if path == "/sitemap.xml":
            paths = [*(f"/page/{n}" for n in range(1, PAGES + 1)), PRIVATE]
            return "200 OK", SITEMAP.format("".join(ENTRY.format(self.address + p) for p in paths))
        if path == BROKEN and self.asked[path] == 1:
            return "500 Internal Server Error", ""
        number = path.removeprefix("/page/")
        if path in GONE or not number.isdigit():
            return "404 Not Found", ""
        n = int(number)
        return "200 OK", PAGE.format(n, n + 1, n + 2, "There is much to say. " * n * 20)


@asynccontextmanager
async def faulty_site() -> AsyncGenerator[FaultySite]:
    """Serve the site until the block is left."""
    os.environ["no_proxy"] = "127.0.0.1"  # a proxy could not reach it
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    site = FaultySite(listeners[0].socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, site.answer, listeners)
        yield site
        nursery.cancel_scope.cancel()
