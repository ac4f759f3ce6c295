"""The life of a task in a worker: resolve, call the handler, encode, hand over."""

import logging
import math
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import orjson
import psycopg
import trio

from blobstore import Blob, Blobs, Loaded, Owner, Place
from pgflow_events.core.tasks import ClaimedTask, Outcome
from pgflow_events.errors import HandlerTimeout, PermanentError, PgflowError
from pgflow_events.flow.flow import Context, Flow, Node, Step
from pgflow_events.flow.inline import thresholds
from pgflow_events.handlers.blocking import Standstills
from pgflow_events.handlers.failures import look_at, refusals_of
from pgflow_events.handlers.processes import Processes
from pgflow_events.postgres.passing import Verdict, reason, verdict_of
from pgflow_events.telemetry import AttemptLog, Hook, TaskEvent, about
from pgflow_events.texts import counted

# Seconds past its timeout a handler may be, or its outcome uncommitted, until its attempt fails
# without it: soon enough to say so before the attempt lapses, 2 seconds after the timeout.
PATIENCE = 0.7
TICK = 0.5  # seconds between two looks for such handlers

Refs = Sequence[tuple[UUID, Node[Any]]]

log = logging.getLogger("pgflow_events.handlers")


class Executor:
    """Runs claimed tasks.

    Args:
        flows: What this worker runs.
        blobs: Loads inputs and encodes outputs.
        settle: Takes the outcome of an attempt.
        resources: The user's own, for :attr:`Context.resources`.
        hooks: Told of every attempt that ended.
        hold: Called where attempts may have lapsed in a standstill of the loop.
        error_texts: Whether the texts of what handlers raise are stored, which may quote values.
    """

    def __init__(
        self,
        flows: Sequence[Flow[Any]],
        blobs: Blobs,
        settle: Callable[[Outcome], Awaitable[None]],
        *,
        resources: Mapping[str, Any],
        hooks: Sequence[Hook],
        hold: Callable[[], object] = lambda: None,
        error_texts: bool = True,
    ) -> None:
        self._flows = {flow.slug: flow for flow in flows}
        self._thresholds: dict[str, Mapping[str, int]] = {}
        self._blobs = blobs
        self._settle = settle
        # The slots are the limit. One of this kind would also count the threads that were given up.
        self._threads = trio.CapacityLimiter(math.inf)
        self._processes = Processes()
        self._resources = resources
        self._hooks = hooks
        self._error_texts = error_texts
        self._running: dict[object, ClaimedTask] = {}
        # The attempts without an outcome, and since when, by the address of the task.
        self._open: dict[int, tuple[ClaimedTask, float]] = {}
        self._standstills = Standstills(self._open, hold)
        self._begun = trio.Event()
        self._pid = os.getpid()

    @property
    def running(self) -> list[ClaimedTask]:
        """The tasks whose handlers run, those that were given up in their threads among them."""
        return list(self._running.values())

    async def execute_all(self, tasks: Sequence[ClaimedTask]) -> None:
        """Run tasks that were claimed together, with one query for all of their blobs.

        Their timeouts count from here: what loads slowly is the attempt's own time.
        """
        claimed = trio.current_time()
        self._open.update((id(task), (task, claimed)) for task in tasks)
        self._begun.set()
        async with trio.open_nursery() as nursery:
            waiting = []
            for task in tasks:
                if refs := self._refs(task):
                    waiting.append((task, refs))
                else:
                    nursery.start_soon(self.execute, task, None, claimed)
            if waiting:
                loaded = await self._load_together(waiting, claimed)
                for task, refs in waiting:
                    own = loaded.only([ref for ref, _ in refs]) if loaded else None
                    nursery.start_soon(self.execute, task, own, claimed)
                if loaded:
                    loaded.release()
        # What has no outcome was cancelled, and not by us.
        for task in [task for task in tasks if id(task) in self._open]:
            await self._fail(task, PgflowError("a handler cancelled the nursery it ran in"))

    async def _load_together(
        self, waiting: Sequence[tuple[ClaimedTask, Refs]], claimed: float
    ) -> Loaded | None:
        """All blobs of these tasks; None if one of them cannot be had, or not in time."""
        wanted = [ref for _, refs in waiting for ref in refs]
        patience = min(task.timeout for task, _ in waiting) / 4  # leaves time to do it apart
        with trio.move_on_at(claimed + patience):
            try:
                return await self._load(wanted)
            except Exception as error:  # noqa: BLE001 - each task loads its own, and is told
                what = counted(len(waiting), "task")
                log.warning("cannot load the inputs of %s: %s", what, reason(error))
        return None

    async def _load_by(self, deadline: float, task: ClaimedTask, refs: Refs) -> Loaded:
        """The blobs of one task. What is wrong with them is its own failure."""
        with self._standstills.limit(task, deadline):
            try:
                return await self._load(refs)
            except psycopg.Error as error:
                failure = PermanentError if verdict_of(error) is Verdict.NEVER else PgflowError
                raise failure(f"the input cannot be loaded: {reason(error)}") from error
        raise HandlerTimeout(self._not_loaded(task))

    async def _load(self, refs: Refs) -> Loaded:
        return await self._blobs.load(
            [ref for ref, node in refs if not node.takes_handle],
            [ref for ref, node in refs if node.takes_handle],
        )

    async def give_up_late(self) -> None:
        """Fail the attempts whose handlers do not heed their timeout, until cancelled.

        Like those in threads they are left to end by themselves, and their slots are free.
        """
        with self._standstills.watch():
            await self._give_up_late()

    async def _give_up_late(self) -> None:
        while True:
            await self._begun.wait()
            while self._open:
                await trio.sleep(TICK)
                late = trio.current_time() - PATIENCE
                for task, claimed in list(self._open.values()):
                    if claimed + task.timeout + self._standstills.of(task) < late:
                        await self._give_up(task)
            self._begun = trio.Event()

    async def _give_up(self, task: ClaimedTask) -> None:
        if any(running is task for running in self.running):
            log.error("%s does not heed its timeout: it is given up", task, extra=about(task))
            await self._fail(task, HandlerTimeout(f"{self._too_long(task)} and goes on"))
        else:
            await self._fail(task, HandlerTimeout(self._not_loaded(task)))

    def _not_loaded(self, task: ClaimedTask) -> str:
        """What is said where the handler was not called in time."""
        beside = self._standstills.beside(task)
        return f"the input was not loaded within the timeout of {task.timeout} s{beside}"

    def _too_long(self, task: ClaimedTask) -> str:
        """What is said of a handler that was cancelled at its timeout."""
        beside = self._standstills.beside(task)
        return f"the handler took longer than its timeout of {task.timeout} s{beside}"

    def _refs(self, task: ClaimedTask) -> Refs:
        """The blobs that the handler asks for, and the nodes that ask."""
        step = self._find(task)
        refs = task.refs
        nodes = step.nodes if step else ()
        return [
            (refs[node.slug], node)
            for node in nodes
            if node.slug in refs and node is not node.flow.context
        ]

    async def execute(self, task: ClaimedTask, loaded: Loaded | None, claimed: float) -> None:
        """Run one task. Whatever its handler does, the task is settled, unless we are cancelled."""
        try:
            outcome = await self._succeed_by(claimed + task.timeout, task, loaded)
        except BaseException as error:  # noqa: BLE001 - handlers may raise anything
            # What was raised on the way out of our own cancellation is nobody's failure.
            await trio.lowlevel.checkpoint_if_cancelled()
            await self._fail(task, error)
        else:
            if self._end(task):
                await self._settle(replace(outcome, until=claimed + task.timeout + PATIENCE))

    async def _fail(self, task: ClaimedTask, error: BaseException) -> None:
        failure = await look_at(error)
        _, claimed = self._open.get(id(task), (task, 0.0))
        if self._end(task, error, failure.traceback):
            until = claimed + task.timeout + PATIENCE
            text = failure.text if self._error_texts else failure.bare
            await self._settle(Outcome(task, None, text, failure.permanent, until))

    async def _succeed_by(
        self, deadline: float, task: ClaimedTask, loaded: Loaded | None
    ) -> Outcome:
        if loaded is None and (refs := self._refs(task)):
            loaded = await self._load_by(deadline, task, refs)
        with self._standstills.limit(task, deadline) as scope:
            return await self._succeed(task, loaded, scope)
        if trio.current_time() < deadline + self._standstills.of(task):
            raise PgflowError("the handler cancelled its own scope")
        raise HandlerTimeout(self._too_long(task))

    async def _succeed(
        self, task: ClaimedTask, loaded: Loaded | None, scope: trio.CancelScope
    ) -> Outcome:
        """Resolve, call the handler, encode."""
        step = self._find(task)
        if step is None:
            raise PgflowError(
                f"this worker knows no step {task.step_slug!r} of flow {task.flow_slug!r}"
            )
        inline = inline_inputs(task)
        arguments = [await self._argument(node, task, inline, loaded, scope) for node in step.nodes]
        if loaded:
            loaded.release()
        owner = Owner(task.run_id, task.step_slug, task.task_index, task.attempt, task.flow_slug)
        with self._note(task):  # a stream is called by who encodes it
            value = await self._call(step, arguments, task)
            with refusals_of(f"step {step.slug!r} returned what"):
                output = await self._blobs.encode(
                    value,
                    owner,
                    threshold=self._threshold(task),
                    by_element=step.by_element,
                    media_type=step.media_type,
                )
        return Outcome(task, output)

    def _find(self, task: ClaimedTask) -> Step[Any] | None:
        flow = self._flows.get(task.flow_slug)
        return flow.steps.get(task.step_slug) if flow else None

    def _threshold(self, task: ClaimedTask) -> int:
        """The bytes beyond which the output becomes a blob."""
        if task.step_slug not in self._thresholds.get(task.flow_slug, {}):
            self._thresholds[task.flow_slug] = thresholds(self._flows[task.flow_slug])
        return self._thresholds[task.flow_slug][task.step_slug]

    async def _call(self, step: Step[Any], arguments: Sequence[Any], task: ClaimedTask) -> Any:
        if step.is_async:
            return await step.handler(*arguments)
        if step.cpu_bound:
            return await self._processes.call(step.handler, arguments)
        if step.is_stream:
            return step.handler(*arguments)
        # A thread cannot be stopped: past its timeout it is left to end by itself.
        (output,) = await trio.to_thread.run_sync(
            partial(self._call_in_thread, step, arguments, task),
            abandon_on_cancel=True,
            limiter=self._threads,
        )
        return output

    def _call_in_thread(
        self, step: Step[Any], arguments: Sequence[Any], task: ClaimedTask
    ) -> tuple[Any]:
        with self._note(task):
            # Wrapped, as trio has words of its own for a coroutine: with all arguments in them.
            return (step.handler(*arguments),)

    @contextmanager
    def _note(self, task: ClaimedTask) -> Iterator[None]:
        call = object()
        self._running[call] = task
        try:
            yield
        finally:
            if os.getpid() != self._pid:
                # A child that a handler has forked came back with it: it is not the worker.
                os._exit(1)
            del self._running[call]

    async def _argument(
        self,
        node: Node[Any],
        task: ClaimedTask,
        inline: Mapping[str, Any],
        loaded: Loaded | None,
        scope: trio.CancelScope,
    ) -> Any:
        if node is node.flow.context:
            return self._context(task, scope)
        ref = task.refs.get(node.slug)
        if ref is None or loaded is None:
            value = inline[node.slug]
            self._blobs.admit_inline(task.run_id)
            return Blob.of(task.run_id, value) if node.takes_handle else value
        place = Place(task.run_id, node.slug)
        return loaded.handle(ref, place) if node.takes_handle else await loaded.get(ref, place)

    def _context(self, task: ClaimedTask, scope: trio.CancelScope) -> Context:
        return Context(
            run_id=task.run_id,
            step=task.step_slug,
            attempt=task.attempt,
            log=AttemptLog(log, about(task)),
            cancel_scope=scope,
            resources=self._resources,
        )

    def _end(
        self, task: ClaimedTask, error: BaseException | None = None, traceback: str = ""
    ) -> bool:
        """Report the end of an attempt. False if it had one before: it was given up."""
        if id(task) not in self._open:
            return False
        _, claimed = self._open.pop(id(task))
        event = TaskEvent(
            task.flow_slug,
            task.step_slug,
            task.run_id,
            task.task_index,
            task.attempt,
            "completed" if error is None else "failed",
            trio.current_time() - claimed,
            error,
            traceback,
        )
        for hook in self._hooks:
            try:
                hook(event)
            except BaseException:  # as of handlers
                log.exception("a hook raised an error", extra=about(task))
        return True


def inline_inputs(task: ClaimedTask) -> dict[str, Any]:
    """The inputs that are no blobs. Who writes SQL can store JSON that no Python can read."""
    try:
        inputs: dict[str, Any] = orjson.loads(task.input)
    except orjson.JSONDecodeError as error:
        raise PermanentError(f"the input cannot be read: {error}") from None
    return inputs
