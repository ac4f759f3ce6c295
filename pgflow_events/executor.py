"""The life of a task in a worker: resolve, call the handler, encode, hand over."""

import logging
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any
from uuid import UUID

import orjson
import trio

from blobstore import Blob, BlobError, Blobs, BlobUnavailable, Loaded, Owner
from pgflow_events.errors import HandlerTimeout, PermanentError, PgflowError
from pgflow_events.flow import Context, Flow, Node, Step
from pgflow_events.queries import ClaimedTask, Outcome
from pgflow_events.telemetry import Hook, TaskEvent

LONGEST_ERROR = 8000  # characters of an error that are kept
MOST_MEMBERS = 100  # of a group that are looked at to describe it

log = logging.getLogger("pgflow_events.handlers")


class Executor:
    """Runs claimed tasks.

    Args:
        flows: What this worker runs.
        blobs: Loads inputs and encodes outputs.
        settle: Takes the outcome of an attempt.
        resources: The user's own, for :attr:`Context.resources`.
        hooks: Told of every attempt that ended.
    """

    def __init__(
        self,
        flows: Sequence[Flow[Any]],
        blobs: Blobs,
        settle: Callable[[Outcome], Awaitable[None]],
        *,
        resources: Mapping[str, Any],
        hooks: Sequence[Hook],
    ) -> None:
        self._flows = {flow.slug: flow for flow in flows}
        self._blobs = blobs
        self._settle = settle
        # The slots are the limit. One of this kind would also count the threads that were given up.
        self._threads = trio.CapacityLimiter(math.inf)
        self._resources = resources
        self._hooks = hooks
        self._running: dict[object, ClaimedTask] = {}

    @property
    def running(self) -> list[ClaimedTask]:
        """The tasks whose handlers run, those that were given up in their threads among them."""
        return list(self._running.values())

    async def execute_all(self, tasks: Sequence[ClaimedTask]) -> None:
        """Run tasks that were claimed together, with one query for all of their blobs.

        Their timeouts count from here: what loads slowly is the attempt's own time.
        """
        claimed = trio.current_time()
        async with trio.open_nursery() as nursery:
            waiting = []
            for task in tasks:
                if refs := self._refs(task):
                    waiting.append((task, refs))
                else:
                    nursery.start_soon(self.execute, task, None, claimed)
            if waiting:
                wanted = [ref for _, refs in waiting for ref in refs]
                loaded = await self._blobs.load(
                    [ref for ref, node in wanted if not node.takes_handle],
                    [ref for ref, node in wanted if node.takes_handle],
                )
                for task, refs in waiting:
                    own = loaded.only([ref for ref, _ in refs])
                    nursery.start_soon(self.execute, task, own, claimed)
                loaded.release()

    def _refs(self, task: ClaimedTask) -> list[tuple[UUID, Node[Any]]]:
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
        outcome, failure = await self._attempt(task, loaded, claimed + task.timeout)
        self._report(task, trio.current_time() - claimed, failure)
        await self._settle(outcome)

    async def _attempt(
        self, task: ClaimedTask, loaded: Loaded | None, deadline: float
    ) -> tuple[Outcome, BaseException | None]:
        try:
            return await self._succeed_by(deadline, task, loaded), None
        except BaseException as error:  # noqa: BLE001 - handlers may raise anything
            # What was raised on the way out of our own cancellation is nobody's failure.
            await trio.lowlevel.checkpoint_if_cancelled()
            return Outcome(task, None, describe(error), is_permanent(error)), error

    async def _succeed_by(
        self, deadline: float, task: ClaimedTask, loaded: Loaded | None
    ) -> Outcome:
        with trio.move_on_at(deadline) as scope:
            return await self._succeed(task, loaded, scope)
        if trio.current_time() < scope.deadline:
            raise PgflowError("the handler cancelled its own scope")
        raise HandlerTimeout(f"the handler took longer than its timeout of {task.timeout} s")

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
            output = await self._blobs.encode(
                await self._call(step, arguments, task),
                owner,
                threshold=threshold(step),
                by_element=step.by_element,
                media_type=step.media_type,
            )
        return Outcome(task, output)

    def _find(self, task: ClaimedTask) -> Step[Any] | None:
        flow = self._flows.get(task.flow_slug)
        return flow.steps.get(task.step_slug) if flow else None

    async def _call(self, step: Step[Any], arguments: Sequence[Any], task: ClaimedTask) -> Any:
        if step.is_async:
            return await step.handler(*arguments)
        if step.is_stream:
            return step.handler(*arguments)
        # A thread cannot be stopped: past its timeout it is left to end by itself.
        return await trio.to_thread.run_sync(
            partial(self._call_in_thread, step, arguments, task),
            abandon_on_cancel=True,
            limiter=self._threads,
        )

    def _call_in_thread(self, step: Step[Any], arguments: Sequence[Any], task: ClaimedTask) -> Any:
        with self._note(task):
            return step.handler(*arguments)

    @contextmanager
    def _note(self, task: ClaimedTask) -> Iterator[None]:
        call = object()
        self._running[call] = task
        try:
            yield
        finally:
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
            return Blob.of(task.run_id, value) if node.takes_handle else value
        return loaded.handle(ref) if node.takes_handle else await loaded.get(ref)

    def _context(self, task: ClaimedTask, scope: trio.CancelScope) -> Context:
        bound = {"run_id": task.run_id, "step": task.step_slug, "attempt": task.attempt}
        return Context(
            run_id=task.run_id,
            step=task.step_slug,
            attempt=task.attempt,
            log=logging.LoggerAdapter(log, bound),
            cancel_scope=scope,
            resources=self._resources,
        )

    def _report(self, task: ClaimedTask, seconds: float, error: BaseException | None) -> None:
        event = TaskEvent(
            task.flow_slug,
            task.step_slug,
            task.run_id,
            task.task_index,
            task.attempt,
            "failed" if error else "completed",
            seconds,
            error,
        )
        for hook in self._hooks:
            try:
                hook(event)
            except Exception:
                log.exception("a hook raised an error")


def threshold(step: Step[Any]) -> int | None:
    """The bytes beyond which the step's output becomes a blob."""
    own = step.options.blob_threshold
    return own if own is not None else step.flow.options.blob_threshold


def inline_inputs(task: ClaimedTask) -> dict[str, Any]:
    """The inputs that are no blobs. Who writes SQL can store JSON that no Python can read."""
    try:
        inputs: dict[str, Any] = orjson.loads(task.input)
    except orjson.JSONDecodeError as error:
        raise PermanentError(f"the input cannot be read: {error}") from None
    return inputs


def members(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, and in the groups in it: too deep for a recursion, maybe."""
    nested = [error]
    while nested:
        member = nested.pop()
        if isinstance(member, BaseExceptionGroup):
            nested.extend(reversed(member.exceptions))
        else:
            yield member


def is_permanent(error: BaseException) -> bool:
    """Whether another attempt would be in vain. A nursery makes a group of what is raised in it."""
    return any(
        isinstance(member, PermanentError | BlobError) and not isinstance(member, BlobUnavailable)
        for member in members(error)
    )


def describe(error: BaseException) -> str:
    """An error as it is stored: its type and text, those of a group's members too.

    A text cannot hold U+0000 and lone surrogates in PostgreSQL, and should not hold megabytes.
    """
    text = headline(error)
    if isinstance(error, BaseExceptionGroup):
        text += f" [{'; '.join(map(headline, islice(members(error), MOST_MEMBERS)))}]"
    storable = text[:LONGEST_ERROR].replace("\0", "\N{REPLACEMENT CHARACTER}")
    return storable.encode("utf-8", "replace").decode()


def headline(error: BaseException) -> str:
    """The type and text of one error."""
    name = type(error).__name__
    try:
        return f"{name}: {error}"[:LONGEST_ERROR]
    except BaseException as fault:  # noqa: BLE001 - an error whose text cannot be had
        return f"{name} (its text raised {type(fault).__name__})"
