"""How a peer's program talks with the driver: one JSON argument in, JSON lines out.

Every peer runs in an environment of its own, so this imports nothing but the standard library.
Times are of the monotonic clock, which on Linux is one for all processes.
"""

import json
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

ORDER: dict[str, Any] = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
ROLE = ORDER.get("role")
DSN = ORDER.get("dsn", "")
URL = ORDER.get("url", "")
OPTIONS = ORDER.get("options", {})
QUIET = ORDER.get("scenario") in {"drain", "load", "small"}

said_started = False


def say(**line: Any) -> None:
    """Send the driver a line, in one write: handlers may be in several processes."""
    os.write(1, (json.dumps(line) + "\n").encode())


def hear() -> dict[str, Any]:
    """Wait for a line of the driver; empty when it is gone."""
    line = sys.stdin.readline()
    return json.loads(line) if line else {}


def ready_to_work() -> None:
    """Say that everything is imported, wait for the word, and end when the driver does."""
    say(event="loaded")
    if not hear():
        sys.exit()
    threading.Thread(target=end_with_the_driver, daemon=True).start()


def end_with_the_driver() -> None:
    """Leave as soon as nobody holds the other end of stdin."""
    while sys.stdin.readline():
        pass
    os._exit(0)


class Command:
    """How many jobs to enqueue, and whether all at once."""

    def __init__(self, first: int, count: int, gap: list[float] | None) -> None:
        self.numbers = range(first, first + count)
        self.bulk = gap is None
        self.sent: list[float] = []
        self.took: list[float] = []
        self._gap = gap or [0, 0]

    def paced(self) -> Iterator[int]:
        """A number at a time, at random gaps; notes when, and how long it took to enqueue it."""
        for number in self.numbers:
            time.sleep(random.uniform(*self._gap))
            self.sent.append(time.monotonic())
            yield number
            self.took.append(time.monotonic() - self.sent[-1])


def commands() -> Iterator[Command]:
    """The driver's wishes; each is answered with the times when it comes back for the next."""
    say(event="loaded")
    while line := hear():
        command = Command(**line)
        yield command
        say(event="sent", at=command.sent, took=command.took)


def started(number: int) -> None:
    """A handler has started; where there are many, only the first of all says so."""
    global said_started  # noqa: PLW0603 - of the process, as its stdout is
    at = time.monotonic()
    if not (QUIET and said_started):
        said_started = True
        say(event="started", number=number, at=at)


@cache
def content() -> str:
    """The page that runs pass on."""
    return Path(ORDER["page"]).read_text()


@cache
def pages() -> list[str]:
    """The small pages of one site."""
    loaded: list[str] = json.loads(Path(ORDER["pages"]).read_text())
    return loaded


def make_page(number: int) -> str:
    """A page unlike those of other runs, with the number in front."""
    text = pages()[number % len(pages())] if QUIET else content()
    return f"<!-- {number} -->{text}"


def number_of(page: str) -> int:
    """The number in front of a page."""
    return int(page[5 : page.index(" -->")])


def first(number: int) -> str:
    """What the first handler does: make the page, and note its end."""
    if QUIET:
        started(number)
        return make_page(number)
    page = make_page(number)
    say(event="left", number=number, at=time.monotonic())
    return page


def second(page: str) -> int:
    """What the second handler does: note its start, and look whether the page came as it left."""
    at = time.monotonic()
    if not QUIET:
        number = number_of(page)
        say(event="arrived", number=number, at=at, equal=page == make_page(number))
    return len(page)
