"""The life of a task in a worker: resolve, call the handler, encode, hand over."""

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import trio

from blobstore import Blob, BlobError, Inline, Loaded
from pgflow_events.errors import HandlerTimeout, PermanentError, PgflowError
from pgflow_events.flow import Context, Flow, Node, Step
from pgflow_events.queries import ClaimedTask, Outcome
from pgflow_events.telemetry import Hook, TaskEvent

LONGEST_ERROR = 8000  # characters of an error that are kept

log = logging.getLogger("pgflow_events.handlers")


class Executor:
    """Runs claimed tasks.

    Args:
        flows: What this worker runs.
        load: Gets blobs by their ids.
        encode: Makes an output of a value: a blob, if it is longer than so many bytes.
        settle: Takes the outcome of an attempt.
        threads: How many plain handlers run at once.
        resources: The user's own, for :attr:`Context.resources`.
        hooks: Told of every attempt that ended.
    """

    def __init__(
        self,
        flows: Sequence[Flow[Any]],
        load: Callable[[Collection[UUID]], Awaitable[Loaded]],
        encode: Callable[[Any, int | None], Awaitable[Inline | Blob]],
        settle: Callable[[Outcome], Awaitable[None]],
        *,
        threads: int,
        resources: Mapping[str, Any],
        hooks: Sequence[Hook],
    ) -> None:
        self._flows = {flow.slug: flow for flow in flows}
        self._load = load
        self._encode = encode
        self._settle = settle
        self._threads = trio.CapacityLimiter(threads)
        self._resources = resources
        self._hooks = hooks

    async def execute_all(self, tasks: Sequence[ClaimedTask]) -> None:
        """Run tasks that were claimed together, with one query for all of their blobs."""
        loaded = await self._load({ref for task in tasks for ref in task.refs.values()})
        async with trio.open_nursery() as nursery:
            for task in tasks:
                nursery.start_soon(self.execute, task, loaded)

    async def execute(self, task: ClaimedTask, loaded: Loaded) -> None:
        """Run one task. Whatever its handler does, the task is settled, unless we are cancelled."""
        started = trio.current_time()
        failure = None
        try:
            step = self._step(task)
            inputs = task.input | {slug: await loaded.get(ref) for slug, ref in task.refs.items()}
            value = await self._call(step, task, inputs)
            outcome = Outcome(task, await self._encode(value, threshold(step)))
        except BaseException as error:
            if is_cancelled(error):
                raise
            failure = error
            permanent = isinstance(error, PermanentError | BlobError)
            outcome = Outcome(task, None, describe(error), permanent)
        self._report(task, trio.current_time() - started, failure)
        await self._settle(outcome)

    def _step(self, task: ClaimedTask) -> Step[Any]:
        try:
            return self._flows[task.flow_slug].steps[task.step_slug]
        except KeyError:
            raise PgflowError(
                f"this worker knows no step {task.step_slug!r} of flow {task.flow_slug!r}"
            ) from None

    async def _call(self, step: Step[Any], task: ClaimedTask, inputs: Mapping[str, Any]) -> Any:
        with trio.move_on_after(task.timeout) as scope:
            arguments = [self._argument(node, task, inputs, scope) for node in step.nodes]
            if step.is_async:
                return await step.handler(*arguments)
            # A thread cannot be stopped: past its timeout it is left to end by itself.
            return await trio.to_thread.run_sync(
                partial(step.handler, *arguments), abandon_on_cancel=True, limiter=self._threads
            )
        raise HandlerTimeout(f"the handler took longer than its timeout of {task.timeout} s")

    def _argument(
        self,
        node: Node[Any],
        task: ClaimedTask,
        inputs: Mapping[str, Any],
        scope: trio.CancelScope,
    ) -> Any:
        if node is not node.flow.context:
            return inputs[node.slug]
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
            hook(event)


def threshold(step: Step[Any]) -> int | None:
    """The bytes beyond which the step's output becomes a blob."""
    own = step.options.blob_threshold
    return own if own is not None else step.flow.options.blob_threshold


def is_cancelled(error: BaseException) -> bool:
    """Whether trio cancelled us, and nothing else happened that a task could be blamed for."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(trio.Cancelled) is not None
    return isinstance(error, trio.Cancelled)


def describe(error: BaseException) -> str:
    """An error as it is stored: its type and text, those of a group's members too.

    A text cannot hold U+0000 and lone surrogates in PostgreSQL, and should not hold megabytes.
    """
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception as fault:  # noqa: BLE001 - an error whose text cannot be had
        text = f"{type(error).__name__} (its text raised {type(fault).__name__})"
    if isinstance(error, BaseExceptionGroup):
        text += f" [{'; '.join(describe(member) for member in error.exceptions)}]"
    storable = text[:LONGEST_ERROR].replace("\0", "\N{REPLACEMENT CHARACTER}")
    return storable.encode("utf-8", "replace").decode()
