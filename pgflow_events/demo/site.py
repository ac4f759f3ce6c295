"""A process of the demo: a web server with what pydoc makes of the standard library.

Told how many pages there shall be, it renders each once and answers with its port and a list of
them. It serves until its standard input ends.
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

from pgflow_events.demo import child

# Some of the largest pages, one of the smallest, and then all sizes between. None of os, sys, site
# and the like: pydoc prints the values of constants, and os.environ is no page for a database.
MODULES = """
    tkinter builtins turtle errno ast asyncio typing socket json enum
    mailbox ssl io unittest configparser decimal inspect smtplib socketserver ipaddress
    collections pathlib logging doctest pdb signal sqlite3 optparse imaplib threading
    types weakref difflib tarfile ftplib codecs http.client calendar argparse re
    contextlib zipfile statistics datetime random itertools selectors queue shutil subprocess
    csv time uuid gzip dataclasses hashlib math struct heapq stat
"""


class Listed(TypedDict):
    """What the site says of a page."""

    path: str
    bytes: int
    sha256: str


def render() -> Iterator[tuple[str, bytes]]:
    """Path and HTML of each module that this Python has."""
    for name in MODULES.split():
        try:
            module = import_module(name)
        except ImportError:  # tkinter and sqlite3 are not everywhere
            continue
        page = pydoc.html.page(name, pydoc.html.document(module, name))
        yield f"/{name}.html", page.encode("utf-8", "replace")


def render_quietly(pages: int) -> dict[str, bytes]:
    """At most so many pages by path, whatever modules may say when they are imported."""
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        return dict(islice(render(), pages))


class Handler(BaseHTTPRequestHandler):
    """Answers GET with one of the pages."""

    def __init__(self, pages: Mapping[str, bytes], *args: object) -> None:
        self._pages = pages
        super().__init__(*args)  # type: ignore[arg-type]  # what the server gives it

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
        """Say nothing: what the process writes is shown if it fails."""


class Server(ThreadingHTTPServer):
    """Serves any number of visitors at once."""

    # Of more than the usual 5 who knock at once, the rest would come again after a second.
    request_queue_size = 128


def listing(pages: Mapping[str, bytes]) -> Sequence[Listed]:
    """What there is, to be compared with what arrives."""
    return [
        {"path": path, "bytes": len(page), "sha256": sha256(page).hexdigest()}
        for path, page in pages.items()
    ]


def main() -> None:
    """Render, tell, serve."""
    pages = render_quietly(child.receive()["pages"])
    with Server(("127.0.0.1", 0), partial(Handler, pages)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        child.send({"port": server.server_port, "pages": listing(pages)})
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    main()
