"""Steps that compute in processes of their own, and what goes wrong there."""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from pgflow_events import Flow, PermanentError

flow = Flow("computing", max_attempts=2, base_delay=0, timeout=30)
values = Flow("values")


@flow.step(flow.input, cpu_bound=True)
def compute(run: dict) -> dict:
    return {"pid": os.getpid(), **WAYS[run["how"]](run)}


def square(run: dict) -> dict:
    return {"square": run["number"] ** 2}


def sleep(run: dict) -> dict:
    Path(run["note"]).write_text(str(os.getpid()))
    time.sleep(1000)
    return {}


def raise_permanent(run: dict) -> dict:
    raise PermanentError("never")


class Unpicklable(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(lambda: one + two)

    def __reduce__(self):
        os._exit(9)


def raise_unpicklable(run: dict) -> dict:
    raise Unpicklable(1, 2)


def allocate(run: dict) -> dict:
    import resource  # noqa: PLC0415

    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, resource.RLIM_INFINITY))
    try:
        return {"much": len(bytes(8 << 30))}
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


WAYS = {
    "square": square,
    "sleep": sleep,
    "exit": lambda run: os._exit(3),
    "leave": lambda run: sys.exit(4),
    "kill": lambda run: os.kill(os.getpid(), signal.SIGKILL),
    "read from nowhere": lambda run: ctypes.string_at(0),
    "raise": lambda run: {"x": 1 / 0},
    "raise for good": raise_permanent,
    "raise what cannot cross": raise_unpicklable,
    "allocate": allocate,
    "tuple": lambda run: {"x": (1, 2)},
}


@values.step(values.input, cpu_bound=True)
def echo(run: object) -> object:
    return run


@values.step(values.input, cpu_bound=True)
def page(run: object) -> str:
    return "<p>long" * 1_000_000


@values.step(page, echo, cpu_bound=True)
def sizes(page: str, echo: object) -> list:
    return [len(page), repr(echo)]


@values.step(cpu_bound=True)
def file() -> Path:
    return Path(__file__)


def spelled(run: object) -> str:
    return repr(run)


values.step(values.input, slug="spelled", cpu_bound=True)(spelled)


squares = Flow("squares", input=list[int])


@squares.step(squares.input.each, cpu_bound=True, exhausted="skip")
def squared(number: int) -> int:
    return number**2
