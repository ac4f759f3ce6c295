"""The executor, with functions in the place of the database and the completer."""

import _thread
import logging
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
import trio
import trio.testing
from psycopg import errors

from blobstore import (
    Blob,
    BlobDamaged,
    BlobForgotten,
    BlobMissing,
    Blobs,
    BlobUnavailable,
    KeyMissing,
    Loaded,
    Stored,
)
from blobstore.postgres.rows import BlobRow
from blobstore.values.codec import Payload
from pgflow_events import Context, Flow, HandlerTimeout, PermanentError, TaskEvent
from pgflow_events.core.tasks import ClaimedTask, Outcome
from pgflow_events.handlers.failures import LONGEST_ERROR, Failure, describe, failure_of
from pgflow_events.telemetry import log_task
from pgflow_events.worker.claiming.slots import Slots
from pgflow_events.worker.executor import Executor
from pgflow_events.worker.ledger import Ledger

PAGE_ID = UUID(int=1)
RUN_ID = UUID(int=2)
PAGE = BlobRow(
    PAGE_ID,
    RUN_ID,
    "page",
    0,
    "text",
    raw_size=4,
    sha256=sha256(b"page").digest(),
    codec="none",
    content=b"page",
)


async def no_database(call: object) -> Any:
    raise AssertionError("a unit test has no database")


class PageBlobs(Blobs):
    """Blobs that have the page, once they are told to load."""

    def __init__(self) -> None:
        super().__init__(no_database, cap=10_000)
        self.open = trio.Event()
        self.open.set()
        self.asked: list[tuple[list[UUID], list[UUID]]] = []

    async def load(self, ids: Collection[UUID], handles: Collection[UUID] = ()) -> Loaded:
        self.asked.append((list(ids), list(handles)))
        await self.open.wait()
        payloads = {ref: Payload("text", "page") for ref in ids if ref == PAGE_ID}
        return Loaded(self._depot, payloads, {ref: PAGE for ref in handles if ref == PAGE_ID})


class Rig:
    """An executor for one flow, and what came out of it."""

    def __init__(self, *hooks: Callable[[TaskEvent], None], slots: int = 1000) -> None:
        self.flow = Flow("flow")
        self.outcomes: list[Outcome] = []
        self.given_back: list[ClaimedTask] = []
        self.events: list[TaskEvent] = []
        self.blobs = PageBlobs()
        self.resources = {"client": object()}
        self.ledger = Ledger()
        self.executor = Executor(
            [self.flow],
            self.blobs,
            self.ledger,
            self._settle,
            slots=Slots(slots),
            give_back=self._give_back,
            drop=self.ledger.drop,
            resources=self.resources,
            hooks=[*hooks, self.events.append],
        )

    async def execute_all(self, tasks: Sequence[ClaimedTask]) -> None:
        """Have them executed as they are once they are claimed."""
        self.ledger.enter(tasks)
        await self.executor.execute_all(tasks)

    async def _give_back(self, tasks: Sequence[ClaimedTask]) -> None:
        self.given_back += tasks
        self.ledger.give_back(tasks, len(tasks))

    async def _settle(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def task(
        self, step: str = "step", timeout: int = 60, refs: dict[str, str] | None = None
    ) -> Any:
        run_input = orjson.dumps({"run": 1}).decode()
        return ClaimedTask("flow", RUN_ID, step, 0, 2, timeout, run_input, refs or {})

    async def run(self, handler: Callable[..., Any], seconds: int = 60) -> Outcome:
        """The outcome of a handler that takes a context."""
        self.flow.step(self.flow.context, slug="step")(handler)
        await self.execute_all([self.task(timeout=seconds)])
        (outcome,) = self.outcomes
        return outcome


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def autojump_clock() -> trio.testing.MockClock:
    """Does not jump while an error is looked at, in a thread."""
    return trio.testing.MockClock(autojump_threshold=0.2)


@pytest.fixture
def hasty_clock(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> trio.testing.MockClock:
    """Jumps at once: errors are looked at where they come, and not in a thread."""

    async def look_at(error: BaseException) -> Failure:
        await trio.lowlevel.checkpoint()
        return failure_of(error)

    monkeypatch.setattr("pgflow_events.worker.executor.look_at", look_at)
    autojump_clock.autojump_threshold = 0.01
    return autojump_clock


def raising(error: BaseException, plain: bool) -> Callable[[Context], Any]:
    def handler(context: Context) -> None:
        raise error

    async def async_handler(context: Context) -> None:
        raise error

    return handler if plain else async_handler


async def test_what_a_handler_returns_is_settled(rig):
    outcome = await rig.run(lambda context: {"attempt": context.attempt})
    assert outcome.output.json == b'{"attempt":2}'
    assert outcome.error is None
    (event,) = rig.events
    assert (event.outcome, event.error, event.attempt) == ("completed", None, 2)


async def test_a_handler_gets_what_its_nodes_give_in_their_order(rig):
    given = []

    @rig.flow.step(slug="page")
    def page():
        return None

    @rig.flow.step(rig.flow.context, page, rig.flow.input)
    async def step(*arguments):
        given.extend(arguments)

    task = rig.task(refs={"page": str(PAGE_ID)})
    await rig.execute_all([task])
    context, *values = given
    assert values == ["page", 1]
    assert (context.run_id, context.step, context.attempt) == (task.run_id, "step", 2)
    assert context.resources is rig.resources


async def test_a_missing_blob_fails_its_task_for_good_and_no_other(rig):
    @rig.flow.step(rig.flow.input)
    async def step(run):
        return None

    missing = str(uuid4())
    tasks = [rig.task(), rig.task(refs={"run": missing}), rig.task()]
    await rig.execute_all(tasks)
    assert {outcome.error for outcome in rig.outcomes} == {
        None,
        f"BlobMissing: blob {missing} is missing",
    }
    assert [o.permanent for o in rig.outcomes if o.task is tasks[1]] == [True]


async def test_a_handler_gets_handles_of_blobs_and_of_what_is_inline_too(rig):
    @rig.flow.step(slug="page")
    def page():
        return None

    @rig.flow.step(page.blob, rig.flow.input.blob, slug="step")
    async def step(page, run):
        return [page.kind, await page.text(), run.kind, await run.value(), run.size]

    await rig.execute_all([rig.task(refs={"page": str(PAGE_ID)})])
    assert rig.outcomes[0].output.json == b'["text","page","json",1,1]'
    assert rig.blobs.asked == [([], [PAGE_ID])]


async def test_a_handle_that_is_returned_stores_nothing(rig):
    @rig.flow.step(slug="page")
    def page():
        return None

    @rig.flow.step(page.blob, slug="step")
    def step(page: Blob[str]) -> Blob[str]:
        return page

    await rig.execute_all([rig.task(refs={"page": str(PAGE_ID)})])
    assert rig.outcomes[0].output == Stored(PAGE_ID)


async def test_blobs_that_no_handler_asks_for_are_not_loaded(rig):
    rig.flow.step(slug="step")(lambda: 1)
    await rig.execute_all([rig.task(refs={"run": str(PAGE_ID)})])
    assert rig.outcomes[0].output.json == b"1"
    assert rig.blobs.asked == []


async def test_tasks_without_blobs_start_before_those_of_others_are_loaded(rig, nursery):
    @rig.flow.step(slug="page")
    def page():
        return None

    rig.flow.step(page, slug="of_page")(lambda page: page)
    rig.flow.step(rig.flow.input, slug="of_run")(lambda run: run)
    rig.blobs.open = trio.Event()
    tasks = [rig.task("of_page", refs={"page": str(PAGE_ID)}), rig.task("of_run")]
    nursery.start_soon(rig.execute_all, tasks)
    while not rig.outcomes:
        await trio.testing.wait_all_tasks_blocked()
    assert [outcome.task.step_slug for outcome in rig.outcomes] == ["of_run"]
    rig.blobs.open.set()
    while len(rig.outcomes) < 2:
        await trio.testing.wait_all_tasks_blocked()
    assert rig.outcomes[1].output.json == b'"page"'


async def test_an_input_that_is_no_json_to_python_fails_its_task_for_good(rig):
    @rig.flow.step(rig.flow.input)
    async def step(run):
        return None

    task = ClaimedTask("flow", uuid4(), "step", 0, 1, 60, '{"run": 1e400}', {})
    await rig.execute_all([task])
    assert rig.outcomes[0].permanent
    assert "the input cannot be read: number is infinity" in rig.outcomes[0].error


async def test_a_step_that_the_worker_does_not_know_fails_its_attempt(rig):
    await rig.execute_all([rig.task("other")])
    assert "knows no step 'other' of flow 'flow'" in rig.outcomes[0].error
    assert not rig.outcomes[0].permanent


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "async"])
@pytest.mark.parametrize(
    "error",
    [ValueError("x"), SystemExit("x"), KeyboardInterrupt("x"), GeneratorExit("x")],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_a_handler_raises_fails_its_attempt_and_nothing_else(rig, error, plain):
    outcome = await rig.run(raising(error, plain))
    assert outcome.error == f"{type(error).__name__}: x"
    assert not outcome.permanent
    (event,) = rig.events
    assert (event.outcome, event.error) == ("failed", error)


@pytest.mark.parametrize("leave", [_thread.exit, sys.exit], ids=["_thread.exit", "sys.exit"])
async def test_a_plain_handler_that_ends_its_thread_fails_its_attempt(rig, leave):
    outcome = await rig.run(lambda context: leave())
    assert outcome.error.startswith("SystemExit")


async def test_stop_iteration_fails_its_attempt(rig):
    outcome = await rig.run(raising(StopIteration("x"), plain=True))
    assert "StopIteration" in outcome.error


@pytest.mark.parametrize(
    "error",
    [
        PermanentError("x"),
        ExceptionGroup("in a nursery", [ExceptionGroup("in another", [PermanentError("x")])]),
    ],
    ids=["alone", "in groups"],
)
async def test_a_permanent_error_fails_its_task_for_good(rig, error):
    assert (await rig.run(raising(error, plain=False))).permanent


@pytest.mark.parametrize(
    ("error", "permanent"),
    [
        (BlobMissing(PAGE_ID), True),
        (BlobForgotten(PAGE_ID), True),
        (BlobDamaged(PAGE_ID, "x"), True),
        (BlobUnavailable("x"), False),
        (KeyMissing("x"), False),
        (ExceptionGroup("in a nursery", [KeyMissing("x")]), False),
        (ExceptionGroup("in a nursery", [KeyMissing("x"), BlobMissing(PAGE_ID)]), True),
    ],
    ids=repr,
)
async def test_what_the_operator_can_mend_is_tried_again(rig, error, permanent):
    assert (await rig.run(raising(error, plain=False))).permanent is permanent


async def test_what_a_handler_yields_is_settled_as_bytes(rig):
    async def handler(context):
        yield b"one "
        yield bytearray(b"two")

    rig.flow.step(rig.flow.context, slug="step", media_type="text/csv")(handler)
    await rig.execute_all([rig.task()])
    (row,) = rig.outcomes[0].output.rows
    assert (row.kind, row.content, row.media_type) == ("bytes", b"one two", "text/csv")
    assert (row.run_id, row.step_slug, row.task_index) == (RUN_ID, "step", 0)


async def test_what_a_stream_raises_half_way_fails_its_attempt_as_itself(rig):
    closed = []

    async def handler(context):
        try:
            yield b"one"
            raise KeyError("x")
        finally:
            closed.append(True)

    outcome = await rig.run(handler)
    assert outcome.error == "KeyError: 'x'"
    assert not outcome.permanent
    assert closed


async def test_a_stream_is_cancelled_at_the_timeout_of_its_step(rig, autojump_clock):
    closed = []

    async def handler(context):
        try:
            yield b"one"
            await trio.sleep_forever()
        finally:
            closed.append(trio.current_time())

    outcome = await rig.run(handler, seconds=7)
    assert outcome.error == "HandlerTimeout: the handler took longer than its timeout of 7 s"
    assert closed == [7]


async def test_a_step_says_how_its_output_is_stored(rig):
    step = rig.flow.step(slug="step", by_element=True, blob_threshold=3, media_type="text/html")
    step(lambda: ["<a>", 1, "<b>", "<a>"])
    await rig.execute_all([rig.task()])
    head, one, other = rig.outcomes[0].output.rows
    assert head.elements == [one.id, None, other.id, one.id]
    assert (one.content, other.content) == (b"<a>", b"<b>")
    assert one.media_type == "text/html"


async def test_a_value_that_cannot_be_kept_fails_its_task_for_good(rig):
    outcome = await rig.run(lambda context: {"a": [1, float("nan")]})
    assert outcome.permanent
    what = "step 'step' returned what cannot be stored: $.a[1] is nan, a number JSON does not have"
    assert outcome.error == f"ValueRefused: {what}; give `None` instead"


async def test_an_async_handler_is_cancelled_at_its_timeout(rig, autojump_clock):
    ended = []

    async def handler(context):
        assert context.cancel_scope.deadline == trio.current_time() + 7
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    outcome = await rig.run(handler, seconds=7)
    assert ended == [7]
    assert outcome.error == "HandlerTimeout: the handler took longer than its timeout of 7 s"
    assert isinstance(rig.events[0].error, HandlerTimeout)
    assert rig.events[0].seconds == 7


async def test_an_error_raised_on_the_way_out_of_a_timeout_is_what_the_task_failed_of(
    rig, autojump_clock
):
    async def handler(context):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise KeyError("x")

    outcome = await rig.run(handler)
    assert "KeyError: 'x'" in outcome.error
    assert "Cancelled" not in outcome.error


async def test_a_handler_that_cancels_its_own_scope_fails_its_attempt_and_is_told_so(rig):
    async def handler(context):
        context.cancel_scope.cancel()
        await trio.sleep_forever()

    outcome = await rig.run(handler)
    assert outcome.error == "PgflowError: the handler cancelled its own scope"


async def test_plain_handlers_that_hang_are_given_up_and_keep_no_others_from_a_thread(rig):
    enough = threading.Event()
    rig.flow.step(slug="hang")(enough.wait)
    rig.flow.step(slug="go_on")(enough.is_set)
    try:
        await rig.execute_all([rig.task("hang", timeout=0) for _ in range(50)])
        assert {outcome.error for outcome in rig.outcomes} == {
            "HandlerTimeout: the handler took longer than its timeout of 0 s"
        }
        await rig.execute_all([rig.task("go_on")])
        assert rig.outcomes[-1].output.json == b"false"
    finally:
        enough.set()


async def test_a_coroutine_that_is_returned_is_refused_without_a_word_of_the_input(rig):
    async def coroutine():
        return 1

    made = coroutine()
    made.close()
    outcome = await rig.run(lambda context: made)
    assert outcome.permanent
    what = "step 'step' returned what cannot be stored"
    said = f"ValueRefused: {what}: $ is of type coroutine; give `await value` instead"
    assert outcome.error == said


async def test_a_handler_that_does_not_heed_its_timeout_is_given_up(nursery, hasty_clock):
    ends, given_up = trio.Event(), trio.Event()
    rig = Rig(lambda event: given_up.set())

    async def handler(context):
        with trio.CancelScope(shield=True):
            await ends.wait()
        return "too late"

    rig.flow.step(rig.flow.context, slug="step")(handler)
    nursery.start_soon(rig.executor.give_up_late)
    began = trio.current_time()
    nursery.start_soon(rig.execute_all, [rig.task(timeout=7)])
    await given_up.wait()
    await trio.testing.wait_all_tasks_blocked()
    assert 7 < trio.current_time() - began < 9  # while the lease lasts
    (outcome,) = rig.outcomes
    said = "HandlerTimeout: the handler took longer than its timeout of 7 s and goes on"
    assert outcome.error == said
    assert len(rig.executor.running) == 1
    ends.set()
    while rig.executor.running:
        await trio.testing.wait_all_tasks_blocked()
    assert rig.outcomes == [outcome]
    assert len(rig.events) == 1
    nursery.cancel_scope.cancel()


async def test_a_task_whose_input_does_not_come_is_given_up_and_never_called(nursery, hasty_clock):
    given_up, called = trio.Event(), []
    rig = Rig(lambda event: given_up.set())

    @rig.flow.step(slug="page")
    def page():
        return None

    @rig.flow.step(page, slug="step")
    async def step(page):
        called.append(page)

    rig.blobs.open = trio.Event()
    nursery.start_soon(rig.executor.give_up_late)
    nursery.start_soon(rig.execute_all, [rig.task(refs={"page": str(PAGE_ID)}, timeout=7)])
    await given_up.wait()
    rig.blobs.open.set()
    await trio.testing.wait_all_tasks_blocked()
    (outcome,) = rig.outcomes
    assert outcome.error == "HandlerTimeout: the input was not loaded within the timeout of 7 s"
    assert called == []
    nursery.cancel_scope.cancel()


async def test_who_cancels_the_nursery_of_the_tasks_leaves_none_without_an_outcome(rig):
    @rig.flow.step(slug="cancels")
    async def cancels():
        trio.lowlevel.current_task().parent_nursery.cancel_scope.cancel()

    rig.flow.step(slug="sleeps")(trio.sleep_forever)
    await rig.execute_all([rig.task("cancels"), rig.task("sleeps")])
    assert {outcome.error for outcome in rig.outcomes} == {
        "PgflowError: a handler cancelled the nursery it ran in"
    }
    assert len(rig.outcomes) == 2


async def test_an_error_that_passes_for_false_is_a_failure_all_the_same(rig):
    class Nothing(Exception):
        def __bool__(self) -> bool:
            return False

    outcome = await rig.run(raising(Nothing("x"), plain=False))
    assert outcome.error == "Nothing: x"
    assert rig.events[0].outcome == "failed"


async def test_cancelled_it_settles_nothing(rig, autojump_clock):
    async def handler(context):
        await trio.sleep_forever()

    rig.flow.step(rig.flow.context, slug="step")(handler)
    with trio.move_on_after(1) as scope:
        await rig.execute_all([rig.task()])
    assert scope.cancelled_caught
    assert (rig.outcomes, rig.events) == ([], [])


async def test_what_handlers_raise_when_they_are_cancelled_with_the_worker_does_not_come_out(
    rig, autojump_clock
):
    async def handler(context):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise KeyError

    rig.flow.step(rig.flow.context, slug="step")(handler)
    with trio.move_on_after(1) as scope:
        await rig.execute_all([rig.task()])
    assert scope.cancelled_caught
    assert rig.outcomes == []


async def test_a_cancellation_that_a_handler_kept_from_elsewhere_is_an_error_like_others(rig):
    async def handler(context):
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep_forever()
            except trio.Cancelled as cancelled:
                kept = cancelled
        raise kept

    outcome = await rig.run(handler)
    assert outcome.error.startswith("Cancelled")


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr
)
async def test_a_hook_that_raises_is_logged_and_harms_nobody(caplog, error):
    def hook(event: TaskEvent) -> None:
        raise error

    rig = Rig(hook)
    outcome = await rig.run(lambda context: None)
    assert outcome.error is None
    assert caplog.messages == ["a hook raised an error"]
    assert len(rig.events) == 1


@pytest.mark.parametrize(("level", "said"), [(logging.INFO, False), (logging.DEBUG, True)])
async def test_the_default_hook_logs_each_attempt_if_anybody_listens(caplog, level, said):
    caplog.set_level(level, "pgflow_events.tasks")
    await Rig(log_task).run(lambda context: None)
    assert ("completed" in caplog.text) is said


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise SystemExit


def nested(depth: int) -> BaseException:
    error: BaseException = ValueError("deep down")
    for _ in range(depth):
        error = BaseExceptionGroup("group", [error])
    return error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("x"), "ValueError: x"),
        (ValueError("a\0b"), "ValueError: a\N{REPLACEMENT CHARACTER}b"),
        (ValueError("a\ud800b"), "ValueError: a?b"),
        (ValueError(), "ValueError"),
        (ValueError(" \n"), "ValueError"),
        (
            ExceptionGroup("two", [ValueError()]),
            "ExceptionGroup: two (1 sub-exception) [ValueError]",
        ),
        (ValueError("x" * 5_000_000), "ValueError: " + "x" * (LONGEST_ERROR - 12)),
        (Unspeakable(), "Unspeakable (its text raised SystemExit)"),
        (
            ExceptionGroup("two", [ValueError("x"), ExceptionGroup("one", [KeyError("y")])]),
            "ExceptionGroup: two (2 sub-exceptions) [ValueError: x; KeyError: 'y']",
        ),
        (
            nested(20_000),
            "ExceptionGroup: group (1 sub-exception) [ValueError: deep down]",
        ),
    ],
    ids=[
        "plain",
        "NUL",
        "surrogate",
        "no text",
        "blank",
        "no text in a group",
        "5 MB",
        "refused",
        "group",
        "deep group",
    ],
)
def test_an_error_is_stored_as_its_type_and_text(error, text):
    assert describe(error) == text


async def test_where_no_thread_can_be_started_an_error_is_told_by_its_type(rig, monkeypatch):
    async def run_sync(*args, **options):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
    outcome = await rig.run(raising(PermanentError("x"), plain=False))
    assert outcome.error == "PermanentError (its text could not be read)"
    assert outcome.permanent


def test_the_members_of_a_wide_group_take_no_more_room_than_an_error():
    group = ExceptionGroup("wide", [ValueError("x" * 1000) for _ in range(10_000)])
    assert len(describe(group)) == LONGEST_ERROR


class BrokenBlobs(PageBlobs):
    """Blobs of which one raises, or never comes, whoever asks for it together with what else."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__()
        self._error = error

    async def load(self, ids: Collection[UUID], handles: Collection[UUID] = ()) -> Loaded:
        if BROKEN_ID in ids:
            if self._error is None:
                await trio.sleep_forever()
            await trio.lowlevel.checkpoint()
            raise self._error
        return await super().load(ids, handles)


BROKEN_ID = UUID(int=99)


@pytest.mark.parametrize(
    ("error", "said", "permanent"),
    [
        (errors.DataCorrupted("invalid page"), "the input cannot be loaded: invalid page", False),
        (errors.InsufficientPrivilege("denied"), "the input cannot be loaded: denied", False),
        (errors.ProgramLimitExceeded("too long"), "the input cannot be loaded: too long", True),
        (MemoryError(), "MemoryError", False),
        (RuntimeError("a bug"), "RuntimeError: a bug", False),
        (None, "the input was not loaded within the timeout of 7 s", False),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_blob_that_cannot_be_loaded_fails_its_task_and_no_other(
    rig, autojump_clock, error, said, permanent
):
    blobs = BrokenBlobs(error)
    rig.executor = Executor(
        [rig.flow],
        blobs,
        rig.ledger,
        rig._settle,
        slots=Slots(4),
        give_back=rig._give_back,
        drop=rig.ledger.drop,
        resources={},
        hooks=[],
    )

    @rig.flow.step(rig.flow.input, slug="step")
    async def step(page):
        return len(page)

    sound = [rig.task(refs={"run": str(PAGE_ID)}) for _ in range(3)]
    broken = rig.task(refs={"run": str(BROKEN_ID)}, timeout=7)
    with trio.fail_after(60):
        await rig.execute_all([sound[0], broken, *sound[1:]])
    failed = [outcome for outcome in rig.outcomes if outcome.error]
    assert [outcome.task for outcome in failed] == [broken]
    assert said in failed[0].error
    assert failed[0].permanent is permanent
    assert [outcome.output.json for outcome in rig.outcomes if outcome.output] == [b"4"] * 3


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


async def test_threads_may_come_and_go_while_late_handlers_are_looked_for(rig, hasty_threads):
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            with rig.executor._running.note(rig.task()):
                pass

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(trio.to_thread.run_sync, churn)
        with ExitStack() as notes:
            for _ in range(20_000):
                notes.enter_context(rig.executor._running.note(rig.task()))
            try:
                for _ in range(100):
                    await rig.executor._give_up(rig.task())
            finally:
                stop.set()


async def test_an_attempt_is_executed_with_few_calls(rig):
    # They are most of what a short task costs a worker. Their number is the same on each machine:
    # 119 on Python 3.11. It was 157 before anybody counted.
    @rig.flow.step(rig.flow.input)
    async def step(number):
        return number

    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    tasks = [rig.task() for _ in range(50)]
    await rig.execute_all(tasks[:1])
    sys.setprofile(count)
    try:
        await rig.execute_all(tasks)
    finally:
        sys.setprofile(None)
    assert calls / len(tasks) < 122


async def test_no_more_handlers_run_than_there_are_slots_and_the_next_follow_at_once(hasty_clock):
    rig, running, most = Rig(slots=2), 0, 0

    @rig.flow.step(slug="step")
    async def step():
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(0.1)
        running -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(rig.execute_all, [rig.task() for _ in range(2)])
    assert (most, len(rig.outcomes), rig.given_back) == (2, 4, [])
    assert trio.current_time() == pytest.approx(0.2)


async def test_a_task_that_waits_for_long_is_given_back_and_has_no_outcome(hasty_clock):
    rig = Rig(slots=2)
    rig.flow.step(slug="step")(partial(trio.sleep, 5))
    tasks = [rig.task() for _ in range(5)]
    await rig.execute_all(tasks)
    assert rig.given_back == tasks[2:]
    assert [outcome.task for outcome in rig.outcomes] == tasks[:2]
    assert [outcome.error for outcome in rig.outcomes] == [None, None]
    assert not rig.ledger.open


async def test_tasks_that_load_blobs_wait_for_a_slot_as_well(hasty_clock):
    rig = Rig(slots=1)

    @rig.flow.step(rig.flow.input, slug="step")
    async def step(page):
        await trio.sleep(0.2)

    tasks = [rig.task(refs={"run": str(PAGE_ID)}) for _ in range(4)]
    await rig.execute_all(tasks)
    assert len(rig.outcomes) == 2
    assert len(rig.given_back) == 2


async def test_the_timeout_of_a_task_counts_from_the_moment_at_which_its_wait_ends(hasty_clock):
    rig = Rig(slots=1)

    @rig.flow.step(rig.flow.context, slug="step")
    async def step(context):
        seconds = pauses.pop(0)
        deadlines.append(context.cancel_scope.deadline)
        await trio.sleep(seconds)

    pauses, deadlines = [0.2, 0.95], []
    await rig.execute_all([rig.task(timeout=1), rig.task(timeout=1)])
    assert deadlines == pytest.approx([1.0, 1.2])
    assert [outcome.error for outcome in rig.outcomes] == [None, None]
    assert rig.outcomes[1].until == pytest.approx(1.2 + 0.7)  # the lease ends at 3


async def test_an_attempt_that_is_given_up_frees_its_slot(hasty_clock):
    rig = Rig(slots=1)

    @rig.flow.step(slug="step")
    async def step():
        with trio.CancelScope(shield=True):
            await trio.sleep(pauses.pop(0))

    pauses = [50.0, 0.0]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.executor.give_up_late)
        nursery.start_soon(rig.execute_all, [rig.task(timeout=1)])
        await trio.sleep(4)
        await rig.execute_all([rig.task()])
        assert [outcome.error is None for outcome in rig.outcomes] == [False, True]
        nursery.cancel_scope.cancel()


async def test_a_handler_that_blocks_the_loop_beyond_its_timeout_fails_though_it_returns(
    rig, hasty_clock
):
    def handler(context: Context) -> int:
        hasty_clock.jump(70)
        return 1

    async def asynchronous(context: Context) -> int:
        return handler(context)

    outcome = await rig.run(asynchronous)
    assert outcome.error.startswith("HandlerTimeout")
