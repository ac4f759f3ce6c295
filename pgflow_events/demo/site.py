"""A process of the demo: a web server for the standard library's pages as pydoc renders them.

The first message says how many pages to serve. The process renders each page once, answers with
its port and a list of the pages, and serves until its standard input ends.
"""

import pydoc
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from io import StringIO
from itertools import islice
from typing import TypedDict

from pgflow_events.service import child

# Some of the largest pages, one of the smallest, and then all sizes between. Not os, sys, site and
# the like: pydoc prints constants, and os.environ does not belong into a database.
MODULES = """
    tkinter builtins turtle errno ast asyncio typing socket json enum
    mailbox ssl io unittest configparser decimal inspect smtplib socketserver ipaddress
    collections pathlib logging doctest pdb signal sqlite3 optparse imaplib threading
    types weakref difflib tarfile ftplib codecs http.client calendar argparse re
    contextlib zipfile statistics datetime random itertools selectors queue shutil subprocess
    csv time uuid gzip dataclasses hashlib math struct heapq stat
"""


class Listed(TypedDict):
    """The facts that the site lists about a page."""

    path: str
    bytes: int
    sha256: str


def render() -> Iterator[tuple[str, bytes]]:
    """The path and HTML of each module that this Python has."""
    for name in MODULES.split():
        try:
            module = import_module(name)
        except ImportError:  # some Pythons lack tkinter or sqlite3
            continue
        page = pydoc.html.page(name, pydoc.html.document(module, name))
        yield f"/{name}.html", page.encode("utf-8", "replace")


def render_quietly(pages: int) -> dict[str, bytes]:
    """At most this number of pages, by path. Modules that print at import stay silent."""
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        return dict(islice(render(), pages))


class Handler(BaseHTTPRequestHandler):
    """Answers GET with one of the pages."""

    def __init__(self, pages: Mapping[str, bytes], *args: object) -> None:
        self._pages = pages
        super().__init__(*args)  # type: ignore[arg-type]  # the server's arguments

    def do_GET(self) -> None:
        """Send the page of this path, or 404."""
        page = self._pages.get(self.path)
        if page is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        """Write nothing: stderr is for the error of the process."""


class Server(ThreadingHTTPServer):
    """Serves any number of visitors at once."""

    # With the usual backlog of 5, further connections would retry after a second.
    request_queue_size = 128


def listing(pages: Mapping[str, bytes]) -> Sequence[Listed]:
    """The facts about all pages, to compare them with those that arrive."""
    return [
        {"path": path, "bytes": len(page), "sha256": sha256(page).hexdigest()}
        for path, page in pages.items()
    ]


def main() -> None:
    """Render the pages, list them and serve them."""
    pages = render_quietly(child.receive()["pages"])
    with Server(("127.0.0.1", 0), partial(Handler, pages)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        child.send({"port": server.server_port, "pages": listing(pages)})
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    main()
