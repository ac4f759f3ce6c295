"""What is called without trio, or entered by the wrong kind of `with`, says what to do instead."""

import asyncio
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio

import blobstore
import pgflow_events
from blobstore import Blob, BlobError, BlobMisuse
from blobstore.postgres.ids import new_id
from pgflow_events import (
    EmbeddedServer,
    Flow,
    Misuse,
    PgflowError,
    Worker,
    connect,
    migrate_now,
)
from pgflow_events.handlers.failures import describe
from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.listener import Listener
from pgflow_events.postgres.pool import Pool

PROTOCOLS = {"BlobStore"}  # others implement it
LEFT_ALONE = {"__aexit__", "aclose"}  # to leave is no fault
THREAD = r"in the thread of a handler, with trio\.from_thread\.run\(\.\.\.\)$"

Call = Callable[[], Any]


def public() -> Iterator[tuple[str, Call]]:
    """Every asynchronous method of what is public, to be called on an object that has nothing."""
    classes = {
        thing
        for package in (pgflow_events, blobstore)
        for name in package.__all__
        if inspect.isclass(thing := getattr(package, name)) and name not in PROTOCOLS
    }
    for cls in sorted(classes, key=lambda cls: cls.__name__):
        for name, function in inspect.getmembers(cls, inspect.iscoroutinefunction):
            if not name.startswith("_") and name not in LEFT_ALONE:
                yield f"{cls.__name__}.{name}()", calling(cls, function)


def calling(cls: type, function: Callable[..., Any]) -> Call:
    required = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    ]
    return lambda: function(cls.__new__(cls), *[None] * (len(required) - 1))


CALLS: dict[str, Call] = {
    **dict(public()),
    "connect()": lambda: connect("").__aenter__(),
    "Connection.connect()": Connection.connect,
    "Listener.run()": lambda: Listener("", [], print, print).run(),
    "Pool.connection()": lambda: Pool("").connection().__aenter__(),
}


def by_asyncio(call: Call) -> None:
    async def main() -> None:
        await call()

    asyncio.run(main())


def by_nobody(call: Call) -> None:
    coroutine = call()
    try:
        coroutine.send(None)
    finally:
        coroutine.close()


def by_a_thread_of_trio(call: Call) -> None:
    async def main() -> None:
        await trio.to_thread.run_sync(by_nobody, call)

    trio.run(main)


def by_asyncio_in_a_thread_of_trio(call: Call) -> None:
    async def main() -> None:
        await trio.to_thread.run_sync(by_asyncio, call)

    trio.run(main)


@pytest.mark.parametrize(
    "caller", [by_asyncio, by_nobody, by_a_thread_of_trio, by_asyncio_in_a_thread_of_trio]
)
@pytest.mark.parametrize("name", CALLS)
def test_whatever_is_called_without_trio_says_in_one_line_what_to_do(name, caller):
    with pytest.raises(RuntimeError, match=f"^{re.escape(name)} works only in trio: ") as error:
        caller(CALLS[name])
    assert isinstance(error.value, Misuse | BlobMisuse)
    assert isinstance(error.value, PgflowError | BlobError)
    assert re.search(THREAD, str(error.value))
    assert "\n" not in str(error.value)


def test_there_is_something_to_try():
    assert len(CALLS) > 25


async def test_in_trio_nothing_is_said():
    assert await Blob.of(new_id(), "text").text() == "text"


@pytest.mark.parametrize(
    ("thing", "instead"),
    [
        (lambda: connect(""), "async with connect(dsn) as client: ..."),
        (lambda: Pool(""), "async with Pool(dsn) as pool: ..."),
        (
            lambda: Blob.of(new_id(), "text").open(),
            "async with blob.open() as stream: async for piece in stream: ...",
        ),
    ],
    ids=["connect", "pool", "stream"],
)
def test_what_is_entered_by_async_with_says_so_otherwise(thing, instead):
    async def awaiting() -> None:
        await thing()

    def entering() -> None:
        with thing():
            pass

    def going_through() -> None:
        for _ in thing():
            pass

    for how, attempt in (
        ("with", entering), ("await", lambda: trio.run(awaiting)), ("for", going_through)
    ):  # fmt: skip
        with pytest.raises(TypeError) as error:
            attempt()
        assert str(error.value) == f"`{how}` does not work here: use {instead}"
        assert isinstance(error.value, PgflowError | BlobError)


async def test_what_is_entered_by_with_says_so_otherwise():
    with pytest.raises(Misuse, match=r"^`async with` does not work here: use with EmbeddedServer"):
        async with EmbeddedServer():
            pass


FLOW = Flow("flow")


@pytest.mark.parametrize("flows", [FLOW, ["flow"], "flow", [Flow], {"flow": FLOW}])
def test_a_worker_of_what_is_no_list_of_flows_says_what_it_takes(flows):
    with pytest.raises(Misuse, match=r"^a worker takes a list of flows, as \[flow\], and not "):
        Worker(flows, "")


async def test_a_migration_within_trio_says_how_it_is_called_there():
    with pytest.raises(
        Misuse, match=r"blocks: use await migrate\(dsn\), or call this before trio\.run\(\)$"
    ):
        migrate_now("host=/nowhere")


@pytest.mark.parametrize("dsn", [None, 5, b"dbname=x", "dbname=x\0 host=y"])
def test_what_can_be_no_dsn_is_told_as_such(dsn):
    async def opening() -> None:
        async with connect(dsn) as client:
            await client.find(new_id())

    for call in (
        lambda: trio.run(opening),
        lambda: trio.run(Worker([FLOW], dsn).run),
        lambda: migrate_now(dsn),
    ):
        with pytest.raises(psycopg.ProgrammingError, match=r"^the DSN cannot be understood: give"):
            call()


def test_a_client_that_was_not_entered_says_so():
    client = connect("")
    with pytest.raises(AttributeError, match=r"no 'start': async with connect\(dsn\) as client"):
        client.start("flow", None)
    assert not hasattr(client, "start")


def raised(call: Callable[[], object]) -> BaseException:
    with pytest.raises(BaseException) as error:  # noqa: PT011 - it is what is asked for
        call()
    return error.value


@pytest.fixture(scope="module")
def told() -> dict[str, str]:
    """In a process of its own, as asyncio leaves loops and coroutines behind."""
    script = Path(__file__).parents[1] / "parts/handlers/asyncio_in_handlers.py"
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", script], capture_output=True, text=True, check=True
    )
    return json.loads(answer.stdout)


def test_a_handler_that_calls_asyncio_is_told_that_it_runs_in_trio(told):
    advice = (
        " (handlers run in trio, not in asyncio: use trio's counterpart,"
        " or make the handler a plain def that calls asyncio.run(...))"
    )
    assert len(told) == 17
    assert {name: text for name, text in told.items() if not text.endswith(advice)} == {}
    assert {name for name, text in told.items() if "\n" in text} == set()


def test_a_plain_handler_that_calls_trio_is_told_that_it_runs_in_a_thread():
    async def main(call: Callable[[], object]) -> None:
        await trio.to_thread.run_sync(call)

    for call in (trio.current_time, trio.CancelScope().__enter__, trio.lowlevel.current_task):
        assert describe(raised(lambda call=call: trio.run(main, call))) == (
            "RuntimeError: must be called from async context (a plain def runs in a thread, outside"
            " of trio: make it an async def, or call trio with trio.from_thread.run(...))"
        )


def failing_in_asyncio() -> None:
    async def main() -> None:
        await asyncio.wait_for(asyncio.Event().wait(), 0.01)

    asyncio.run(main())


@pytest.mark.parametrize(
    "call",
    [
        failing_in_asyncio,
        lambda: {}["x"],
        lambda: (_ for _ in ()).throw(RuntimeError("boom")),
        lambda: asyncio.run(None),
    ],
    ids=["timeout", "KeyError", "RuntimeError", "no coroutine"],
)
def test_other_errors_are_told_as_they_are(call):
    error = raised(call)
    assert "asyncio" in sys.modules
    assert "handlers run in trio" not in describe(error)


def test_a_worker_is_run_by_trio_within_asyncio_and_says_what_it_has_to_say():
    """It blocks the loop, but it is trio that runs."""

    async def main() -> None:
        trio.run(Worker([], "host=/nowhere port='x").run)

    with pytest.raises(Exception, match="the DSN cannot be understood"):
        asyncio.run(main())
