"""What handlers should not do, and for each what its task has to say, as a regular expression."""

import asyncio
import dataclasses
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trio

from pgflow_events import connect

released = threading.Event()
"""Set when the test is over: what never ends in life has to end then."""

DEEP = 100_000
HUGE = 10_000_000  # characters


@dataclasses.dataclass
class Poison:
    """A handler that takes the context, and what its task says."""

    handler: Callable[..., Any]
    says: str
    permanent: bool = False
    """Whether it is not tried again."""
    timeout: int = 60
    lasts: bool = False
    """Whether it takes a second or more, and lets others run meanwhile."""


POISONS: dict[str, Poison] = {}
LASTS = {"timeout": 1, "lasts": True}


def poison(says: str, *, twice: bool = True, **options: Any) -> Callable[[Callable], Callable]:
    """Add a handler to the catalogue, and once more as an async one calls it."""

    def add(handler: Callable) -> Callable:
        async def async_handler(context):
            return handler(context)

        POISONS[handler.__name__] = Poison(handler, says, **options)
        if twice:
            POISONS[f"{handler.__name__}, async"] = Poison(async_handler, says, **options)
        return handler

    return add


def raised(name: str, says: str, make: Callable[[], BaseException], **options: Any) -> None:
    """Add the handler that raises what is made."""

    def handler(context):
        raise make()

    handler.__name__ = name
    poison(says, **options)(handler)


def returned(name: str, says: str, make: Callable[[], Any]) -> None:
    """Add the handler that returns what is made, which is no value."""

    def handler(context):
        return make()

    handler.__name__ = name
    poison(
        rf"ValueRefused: step .* returned what cannot be stored: {says}",
        permanent=True,
        twice=False,
    )(handler)


# --- errors


class Mute(Exception):
    def __str__(self) -> str:
        raise KeyError


class Leaving(Exception):
    def __str__(self) -> str:
        raise SystemExit


class Echo(Exception):
    def __str__(self) -> str:
        return str(self)


class Hanging(Exception):
    def __str__(self) -> str:
        return str(released.wait())


class Faceless(Exception):
    @property
    def __class__(self):
        raise KeyError


class Nameless(type(Exception)):
    @property
    def __name__(cls):
        raise KeyError


class OfNameless(Exception, metaclass=Nameless):
    pass


class Group(BaseExceptionGroup):
    @property
    def exceptions(self):
        raise KeyError


def cycle() -> BaseException:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__context__ = other, one
    one.args = ("one", [one])
    return one


def chained(depth: int) -> BaseException:
    error = first = ValueError("the first")
    for _ in range(depth):
        error.__cause__ = error = ValueError("another")
    return first


def nested(depth: int, width: int = 1) -> BaseException:
    error: BaseException = ValueError("deep down")
    for _ in range(depth):
        error = BaseExceptionGroup("group", width * [error])
    return error


def deep(depth: int = DEEP) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


def kept_cancellation() -> BaseException:
    async def cancel() -> BaseException:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep_forever()
            except trio.Cancelled as cancelled:
                kept = cancelled
        return kept

    kept: list[BaseException] = []

    def run() -> None:
        kept.append(trio.run(cancel))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return kept[0]


raised("SystemExit", r"SystemExit: 3", lambda: SystemExit(3))
raised("KeyboardInterrupt", r"KeyboardInterrupt$", KeyboardInterrupt)
raised("GeneratorExit", r"GeneratorExit$", GeneratorExit)
raised("StopIteration", r"RuntimeError: coroutine raised StopIteration", lambda: StopIteration(1))
raised("StopAsyncIteration", r"StopAsyncIteration: 1", lambda: StopAsyncIteration(1))
raised("asyncio's CancelledError", r"CancelledError: x", lambda: asyncio.CancelledError("x"))
raised("trio's Cancelled", r"Cancelled: ", kept_cancellation)
raised("trio's EndOfChannel", r"EndOfChannel$", trio.EndOfChannel)
raised("MemoryError", r"MemoryError$", MemoryError)
raised("a text of 10 MB", r"ValueError: x{1000}", lambda: ValueError("x" * HUGE))
raised("no text", r"Mute \(its text raised KeyError\)", Mute)
raised("a text that leaves", r"Leaving \(its text raised SystemExit\)", Leaving)
raised("an endless text", r"Echo \(its text raised RecursionError\)", Echo)
raised("a text that hangs", r"Hanging \(its text took too long\)", Hanging, lasts=True)
raised("a deep text", r"ValueError \(its text raised RecursionError\)", lambda: ValueError(deep()))
raised("no class", r"Faceless", Faceless)
raised("no name", r"OfNameless", OfNameless)
raised("no members", r"Group: x \(1 sub-exception\)", lambda: Group("x", [KeyError()]))
raised("a cycle", r"ValueError: \('one', \[ValueError", cycle)
raised("a long chain", r"ValueError: the first", lambda: chained(5000))
raised("deep groups", r"ExceptionGroup: group .* \[ValueError: deep down\]", lambda: nested(5000))
raised(
    "groups of groups", r"ExceptionGroup: group .* \[ValueError: deep down", lambda: nested(60, 2)
)
raised("what no text can hold", r"ValueError: \ufffd\?", lambda: ValueError("\0\ud800"))


@poison("RecursionError: maximum recursion depth exceeded")
def endless_recursion(context):
    return endless_recursion(context)


@poison("RecursionError: maximum recursion depth exceeded")
def endless_recursion_in_c(context):
    return repr(deep())


# --- values


class Hostile:
    """Whatever is asked of it, it raises."""

    def _raise(self, *args):
        raise ZeroDivisionError

    __eq__ = __hash__ = __iter__ = __len__ = __repr__ = __str__ = __bool__ = _raise


class Text(str):
    __slots__ = ()


class Bytes(bytes):
    __slots__ = ()


class KeyText(str):
    __slots__ = ()

    def __hash__(self):
        return 0

    def __repr__(self):
        raise ZeroDivisionError


async def coroutine() -> int:
    return 1


def unawaited():
    made = coroutine()
    made.close()  # else Python warns
    return made


def closed_file():
    with open("/dev/null") as file:  # noqa: PTH123
        return file


def holds_itself() -> list:
    value: list = []
    value.append(value)
    return value


returned("a coroutine", r"\$ is of type coroutine; give `await value`", unawaited)
returned("a generator", r"\$ is of type generator; give `list\(value\)`", lambda: (x for x in "ab"))
returned("a file", r"\$ is of type _io\.", closed_file)
returned("a lock", r"\$ is of type _thread\.lock", threading.Lock)
returned("a function", r"\$ is of type function", lambda: poison)
returned("a class", r"\$ is of type type", lambda: Hostile)
returned("a list that holds itself", r"\$.* is nested deeper than 254", holds_itself)
returned("a deep list", r"\$.* is nested deeper than 254", deep)
returned("NaN", r"\$\.a\[0\] is nan", lambda: {"a": [float("nan")]})
returned("a huge int", r"\$ is an integer outside", lambda: 1 << 10_000_000)
returned("a lone surrogate", r"\$ has a lone surrogate", lambda: "\ud800")
returned("a lone surrogate in a key", r"\$ has a lone surrogate", lambda: {"\udfff": 1})
returned("a subclass of bytes", r"\$ is of type .*Bytes", lambda: Bytes(b"x"))
returned("a subclass of str", r"\$ is of type .*Text; give `str\(value\)`", lambda: Text("x"))
returned("a key that is no str", r"\$ has a key of type int, 1", lambda: {1: 2})
returned("a key of a subclass", r"\$ has a key of type .*Text", lambda: {Text("x"): 2})
returned("a dataclass", r"\$ is of type .*Poison", lambda: Poison(deep, "x"))
returned("what raises when asked", r"\$\[0\] is of type .*Hostile", lambda: [Hostile()])
returned("the context's own", r"\$ is of type .*CancelScope", trio.CancelScope)
returned("Ellipsis", r"\$ is of type ellipsis", lambda: ...)


@poison("ZeroDivisionError")
def a_key_whose_repr_raises(context):
    return {KeyText("x"): 1}


# --- asyncio, and what is not awaited


@poison(r"RuntimeError: no running event loop \(handlers run in trio", twice=False)
async def sleeping_by_asyncio(context):
    await asyncio.sleep(1)


@poison(r"TypeError: trio.run received unrecognized .* \(handlers run in trio", twice=False)
async def letting_others_run_by_asyncio(context):
    await asyncio.sleep(0)


@poison(r"RuntimeError: must be called from async context \(a plain def runs", twice=False)
def asking_trio_for_the_time(context):
    return trio.current_time()


@poison(r"Misuse: connect\(\) works only in trio: .* trio.from_thread.run", twice=False)
def connecting_by_asyncio(context):
    async def main():
        async with connect(""):
            pass

    asyncio.run(main())


# --- streams


@poison("KeyError: 'x'", twice=False)
async def a_stream_that_raises_midway(context):
    yield b"one"
    raise KeyError("x")


@poison("SystemExit: x", twice=False)
async def a_stream_that_exits(context):
    yield b"one"
    raise SystemExit("x")


@poison("RuntimeError: .*StopAsyncIteration", twice=False)
async def a_stream_that_stops(context):
    yield b"one"
    raise StopAsyncIteration


@poison(r"ValueRefused: .*\$ is a stream that yields str", twice=False, permanent=True)
async def a_stream_of_text(context):
    yield b"one"
    yield "two"


@poison("HandlerTimeout: the handler took longer than its timeout of 1 s", twice=False, **LASTS)
async def a_stream_without_end(context):
    while True:
        yield b""


@poison("HandlerTimeout: the handler took longer than its timeout of 1 s", twice=False, **LASTS)
async def a_stream_that_waits(context):
    yield b"one"
    await trio.sleep_forever()


@poison("RuntimeError: async generator ignored GeneratorExit", twice=False)
async def a_stream_that_does_not_heed_its_end(context):
    try:
        yield b"one"
        yield "no bytes"
    finally:
        yield b"two"


class Stream:
    def __aiter__(self):
        return self

    def __anext__(self):
        return b"not awaitable"


@poison("TypeError: .*bytes")
def a_stream_that_is_none(context):
    return Stream()


@poison("RuntimeError|HandlerTimeout", twice=False, **LASTS)
async def a_stream_within_a_nursery(context):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        yield b"one"
        await trio.sleep_forever()


@poison("KeyError: 'close'", twice=False)
async def a_stream_whose_closing_raises(context):
    try:
        yield b"one"
        yield None
    finally:
        raise KeyError("close")


# --- trio


@poison("PgflowError: the handler cancelled its own scope", twice=False)
async def cancels_its_scope(context):
    context.cancel_scope.cancel()
    await trio.sleep_forever()


@poison("HandlerTimeout: .*timeout of 1 s", twice=False, **LASTS)
async def puts_off_its_deadline(context):
    context.cancel_scope.deadline = float("inf")
    await trio.sleep_forever()


@poison("HandlerTimeout: .*timeout of 1 s", twice=False, **LASTS)
async def swallows_its_cancellation(context):
    while not released.is_set():
        with suppress(trio.Cancelled):
            await trio.sleep_forever()


@poison("HandlerTimeout: .*timeout of 1 s", twice=False, **LASTS)
def waits_for_ever(context):
    released.wait()


@poison("HandlerTimeout: .*timeout of 1 s", twice=False, timeout=1)
async def blocks_all(context):
    released.wait(3)


@poison("HandlerTimeout: .*timeout of 1 s", twice=False, **LASTS)
async def shields_itself(context):
    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(released.wait)


@poison("PgflowError: .*", twice=False)
async def cancels_the_nursery_it_runs_in(context):
    trio.lowlevel.current_task().parent_nursery.cancel_scope.cancel()
    await trio.sleep_forever()


@poison("RuntimeError: Cancel scope stack corrupted", twice=False)
async def leaves_a_scope_open(context):
    trio.CancelScope().__enter__()


@poison("RuntimeError: Attempted to call run\\(\\) from inside a run\\(\\)", twice=False)
async def runs_trio_in_trio(context):
    trio.run(trio.sleep, 0)


@poison("TypeError|RuntimeError: no running event loop", twice=False)
async def awaits_what_is_asyncios(context):
    await asyncio.sleep(1)


@poison("TypeError: .*Future", twice=False)
async def awaits_a_future(context):
    loop = asyncio.new_event_loop()
    try:
        await loop.create_future()
    finally:
        loop.close()
