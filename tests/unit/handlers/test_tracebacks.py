"""A traceback begins where the handler does, and loses no cause and no member of a group."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio

from blobstore import Blobs
from pgflow_events import telemetry
from pgflow_events.core.tasks import ClaimedTask
from pgflow_events.demo import flows
from pgflow_events.flow.flow import Flow
from pgflow_events.handlers.failures import failure_of
from pgflow_events.handlers.processes import work
from pgflow_events.worker.claiming.slots import Slots
from pgflow_events.worker.executor import Executor
from pgflow_events.worker.ledger import Ledger


def deep() -> None:
    raise ValueError("deep")


def fails(*_: object) -> str:
    deep()
    return ""


async def fails_awaited(*_: object) -> str:
    await trio.lowlevel.checkpoint()
    deep()
    return ""


async def fails_at_once() -> None:
    deep()


async def fails_as_a_stream(*_: object) -> Any:
    yield b"some"
    deep()


async def fails_with_causes(*_: object) -> str:
    try:
        try:
            deep()
        except ValueError as error:
            raise KeyError("middle") from error
    except KeyError:
        raise RuntimeError("top")  # noqa: B904 - the context is what is tested


async def fails_in_a_nursery(*_: object) -> str:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails_at_once)
        nursery.start_soon(fails_with_causes)
    return ""


async def fails_in_a_thread(*_: object) -> str:
    return await trio.to_thread.run_sync(fails)


EXPECTED = {
    fails: ["fails", "deep"],
    fails_awaited: ["fails_awaited", "deep"],
    fails_as_a_stream: ["fails_as_a_stream", "deep"],
    fails_with_causes: ["fails_with_causes", "deep", "fails_with_causes", "fails_with_causes"],
    fails_in_a_nursery: ["fails_in_a_nursery"],
    fails_in_a_thread: ["fails_in_a_thread"],
}
"""The functions in which each traceback begins, of handlers in trio, in threads and in streams."""


async def traceback_in_a_worker(handler: Any) -> str:
    events: list[telemetry.TaskEvent] = []
    flow = Flow("flow", max_attempts=1)
    flow.step(flow.input, slug="step")(handler)

    async def settle(_: object) -> None:
        await trio.lowlevel.checkpoint()

    async def make(_: object) -> Any:
        raise AssertionError("nothing is stored")

    ledger, task = Ledger(), ClaimedTask("flow", UUID(int=1), "step", 0, 1, 60, '{"run": 1}', {})
    ledger.enter([task])
    executor = Executor(
        [flow],
        Blobs(make),
        ledger,
        settle,
        slots=Slots(1),
        give_back=settle,
        drop=ledger.drop,
        resources={},
        hooks=[events.append],
    )
    await executor.execute_all([task])
    return events[0].traceback


@pytest.mark.parametrize("handler", EXPECTED, ids=lambda handler: handler.__name__)
async def test_the_first_frame_is_the_handlers(handler: Any) -> None:
    text = await traceback_in_a_worker(handler)
    assert text.endswith(failure_of(ValueError("deep")).text) or "RuntimeError: top" in text
    places = [line.split(" in ")[-1] for line in text.splitlines() if "  File " in line]
    assert places[: len(EXPECTED[handler])] == EXPECTED[handler]
    first = next(line for line in text.splitlines() if "  File " in line)
    assert __file__ in first
    assert "executor.py" not in text


async def test_causes_and_contexts_are_kept() -> None:
    text = await traceback_in_a_worker(fails_with_causes)
    order = ["ValueError: deep", "direct cause", "KeyError: 'middle'", "During handling", "top"]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)


async def test_the_members_of_a_group_are_kept() -> None:
    text = await traceback_in_a_worker(fails_in_a_nursery)
    assert "ExceptionGroup: Exceptions from Trio nursery (2 sub-exceptions)" in text
    assert text.count("ValueError: deep") == 2
    assert "in deep" in text
    assert "RuntimeError: top" in text


def test_in_a_process_it_begins_with_the_handler_too() -> None:
    failure: Any = work(__name__, "fails", [])
    assert failure.traceback.splitlines()[1].endswith("in fails")


def calls_asyncio(*_: object) -> None:
    import asyncio  # noqa: PLC0415 - as handlers do

    asyncio.get_running_loop()


async def test_the_advice_for_an_error_follows_its_traceback() -> None:
    text = await traceback_in_a_worker(calls_asyncio)
    said, advice = text.splitlines()[-2:]
    assert said == "RuntimeError: no running event loop"
    assert advice.startswith("handlers run in trio, not in asyncio: use trio's counterpart")
    assert advice.endswith("calls asyncio.run(...)")


async def test_what_the_engine_refuses_on_purpose_is_told_without_its_frames() -> None:
    text = await traceback_in_a_worker(lambda run: {1})
    assert text.startswith("blobstore.errors.ValueRefused: ")


async def test_a_fault_of_the_engines_own_keeps_all_frames() -> None:
    blobs: Any = None
    try:
        Executor(
            [],
            blobs,
            Ledger(),
            blobs,
            slots=Slots(1),
            give_back=blobs,
            drop=blobs,
            resources={},
            hooks=[],
        )._find(blobs)
    except AttributeError as error:
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        text = failure_of(error).traceback
    assert "executor.py" in text
    assert "NoneType" in text


async def test_a_handler_of_the_demo_is_no_part_of_the_engine() -> None:
    path = Path(flows.__file__)
    code = compile("def handler(run):\n    raise ValueError('demo')", str(path), "exec")
    names: dict[str, Any] = {}
    exec(code, names)
    text = await traceback_in_a_worker(names["handler"])
    assert text.splitlines()[1].startswith(f'  File "{path}"')
