"""The life of a task in a worker: resolve, call the handler, encode, hand over."""

import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import trio

from blobstore import Blobs, Inline, Loaded, Stored
from pgflow_events.core.tasks import ClaimedTask, Outcome
from pgflow_events.errors import HandlerTimeout, PgflowError
from pgflow_events.flow.conditions import Facts
from pgflow_events.flow.flow import Context, Flow, Step
from pgflow_events.flow.options import Told
from pgflow_events.handlers.blocking import Standstills
from pgflow_events.handlers.failures import look_at
from pgflow_events.handlers.loop_watch import LIMIT
from pgflow_events.handlers.processes import Processes
from pgflow_events.handlers.running import Running
from pgflow_events.telemetry import AttemptLog, Hook, TaskEvent, about, heeds
from pgflow_events.worker.claiming.slots import PATIENCE, Slots
from pgflow_events.worker.inputs import Inputs, Refs, blobs_asked_for
from pgflow_events.worker.ledger import Ledger
from pgflow_events.worker.outputs import Outputs

# Seconds that a handler, or the commit of its outcome, may overrun the timeout before the worker
# fails the attempt itself. The attempt lapses 2 seconds after the timeout, so our error is stored.
OVERRUN = 0.7
TICK = 0.5  # seconds between two looks for late handlers

log = logging.getLogger("pgflow_events.handlers")


class Stopped(PgflowError):
    """The attempt was stopped: the task is this worker's no more."""


class Executor:
    """Runs claimed tasks.

    Args:
        flows: The flows of this worker.
        blobs: Loads inputs and encodes outputs.
        ledger: Holds the claimed tasks, and records which of them have an outcome.
        settle: Takes the outcome of an attempt.
        slots: Lets no more handlers run at a time than there are slots.
        give_back: Takes tasks that have waited too long for a slot.
        drop: Takes tasks whose attempts were stopped, and have no outcome.
        resources: The user's resources, for :attr:`Context.resources`.
        hooks: Called with every attempt that ended.
        hold: Called when attempts may have lapsed during a standstill of the loop.
        error_texts: Whether to store the texts of errors, which may quote values.
    """

    def __init__(
        self,
        flows: Sequence[Flow[Any]],
        blobs: Blobs,
        ledger: Ledger,
        settle: Callable[[Outcome], Awaitable[None]],
        *,
        slots: Slots,
        give_back: Callable[[Sequence[ClaimedTask]], Awaitable[None]],
        drop: Callable[[ClaimedTask], object],
        resources: Mapping[str, Any],
        hooks: Sequence[Hook],
        hold: Callable[[], object] = lambda: None,
        error_texts: bool = True,
    ) -> None:
        self._flows = {flow.slug: flow for flow in flows}
        self._inputs = Inputs(blobs)
        self._outputs = Outputs(blobs, self._flows)
        self._ledger = ledger
        self._settle = settle
        self._slots = slots
        self._give_back, self._drop = give_back, drop
        # The slots are the limit. A CapacityLimiter would also count threads that were given up.
        self._threads = trio.CapacityLimiter(math.inf)
        self._processes = Processes()
        self._resources = resources
        self._hooks = hooks
        self._error_texts = error_texts
        self._running = Running()
        self._told: dict[int, Told] = {}
        self._standstills = Standstills(ledger.open, hold)
        self._begun = trio.Event()

    @property
    def running(self) -> list[ClaimedTask]:
        """The tasks whose handlers run, including those given up whose threads go on."""
        return self._running.tasks

    def stop(self, task: ClaimedTask, why: str) -> None:
        """Cancel the handler of a task that is this worker's no more. It has no outcome."""
        if self._ledger.stop(task, why):
            if told := self._told.get(id(task)):
                told.why = why
            self._standstills.cancel(task)

    async def execute_all(self, tasks: Sequence[ClaimedTask]) -> None:
        """Run tasks that were claimed together, with one query for all of their blobs.

        Their timeouts count from the claim, so they include the time for loading blobs. A task
        that finds no slot free within `PATIENCE` seconds is given back.
        """
        _, claimed = self._ledger.open[id(tasks[0])]
        self._begun.set()
        async with trio.open_nursery() as nursery:
            waiting, late = [], []
            for task in tasks:
                if refs := self._refs(task):
                    waiting.append((task, refs))
                elif self._slots.enter(task):
                    nursery.start_soon(self.execute, task, None, claimed)
                elif await self._slots.enter_by(claimed + PATIENCE, task):
                    nursery.start_soon(self.execute, task, None, self._ledger.put_off(task))
                else:
                    late.append(task)
            if waiting:
                # Then each has time for its own.
                share = min(task.timeout for task, _ in waiting) / 4
                wanted = [refs for _, refs in waiting]
                loaded = await self._inputs.load_together(wanted, claimed + share)
                until = trio.current_time() + PATIENCE
                for task, refs in waiting:
                    if not await self._slots.enter_by(until, task):
                        late.append(task)
                        continue
                    own = loaded.only([ref for ref, _ in refs]) if loaded else None
                    nursery.start_soon(self.execute, task, own, claimed)
                if loaded:
                    loaded.release()
            if late:
                await self._give_back(late)
        # A task without an outcome was cancelled, and not by us.
        for task in [task for task in tasks if id(task) in self._ledger.open]:
            await self._fail(task, PgflowError("a handler cancelled the nursery it ran in"))

    async def execute(self, task: ClaimedTask, loaded: Loaded | None, claimed: float) -> None:
        """Run one task, and settle it whatever its handler does, unless we are cancelled."""
        try:
            output, facts = await self._succeed_by(claimed + task.timeout, task, loaded)
        except BaseException as error:  # noqa: BLE001 - handlers may raise anything
            # An error raised while we are being cancelled is not a failure of the task.
            await trio.lowlevel.checkpoint_if_cancelled()
            await self._fail(task, error)
        else:
            if self._end(task) is not None:
                until = claimed + task.timeout + OVERRUN
                await self._settle(Outcome(task, output, until=until, facts=facts))

    async def _succeed_by(
        self, deadline: float, task: ClaimedTask, loaded: Loaded | None
    ) -> tuple[Inline | Stored, Facts | None]:
        if loaded is None and (refs := self._refs(task)):
            loaded = await self._load_by(deadline, task, refs)
        if self._ledger.stops:
            self._check_stopped(task)
        with self._standstills.limit(task, deadline) as scope:
            return await self._succeed(task, loaded, scope)
        self._check_stopped(task)
        if trio.current_time() < deadline + self._standstills.of(task):
            raise PgflowError("the handler cancelled its own scope")
        raise HandlerTimeout(self._too_long(task))

    def _check_stopped(self, task: ClaimedTask) -> None:
        if why := self._ledger.stops.get(id(task)):
            raise Stopped(why)

    async def _load_by(self, deadline: float, task: ClaimedTask, refs: Refs) -> Loaded:
        """The blobs of one task. An error in loading them fails this task alone."""
        with self._standstills.limit(task, deadline):
            return await self._inputs.load(refs)
        raise HandlerTimeout(self._not_loaded(task))

    async def _succeed(
        self, task: ClaimedTask, loaded: Loaded | None, scope: trio.CancelScope
    ) -> tuple[Inline | Stored, Facts | None]:
        """Resolve, call the handler, encode."""
        step = self._find(task)
        if step is None:
            raise PgflowError(
                f"this worker knows no step {task.step_slug!r} of flow {task.flow_slug!r}"
            )
        arguments = await self._inputs.arguments(
            step, task, loaded, lambda: self._context(task, scope)
        )
        if loaded:
            loaded.release()
        brief_until = scope.deadline - task.timeout + LIMIT
        with self._running.note(task):  # the handler of a stream is called by encode()
            value = await self._call(step, arguments, task)
            if trio.current_time() > brief_until:
                # It may have blocked the loop, which notices while the attempt is known.
                await trio.lowlevel.checkpoint()
            return await self._outputs.encode(step, task, value)

    def _refs(self, task: ClaimedTask) -> Refs:
        return blobs_asked_for(self._find(task), task) if task.blobs_refs else ()

    def _find(self, task: ClaimedTask) -> Step[Any] | None:
        flow = self._flows.get(task.flow_slug)
        return flow.steps.get(task.step_slug) if flow else None

    def _context(self, task: ClaimedTask, scope: trio.CancelScope) -> Context:
        return Context(
            run_id=task.run_id,
            step=task.step_slug,
            attempt=task.attempt,
            log=AttemptLog(log, about(task)),
            cancel_scope=scope,
            resources=self._resources,
            index=task.task_index,
            _told=self._told.setdefault(id(task), Told()),
        )

    async def _call(self, step: Step[Any], arguments: Sequence[Any], task: ClaimedTask) -> Any:
        if step.is_async:
            return await step.handler(*arguments)
        if step.cpu_bound:
            return await self._processes.call(step.handler, arguments)
        if step.is_stream:
            return step.handler(*arguments)
        # A thread cannot be stopped: after the timeout it is left to end by itself.
        (output,) = await trio.to_thread.run_sync(
            partial(self._call_in_thread, step, arguments, task),
            abandon_on_cancel=True,
            limiter=self._threads,
        )
        return output

    def _call_in_thread(
        self, step: Step[Any], arguments: Sequence[Any], task: ClaimedTask
    ) -> tuple[Any]:
        with self._running.note(task):
            # In a tuple, because trio refuses a coroutine with an error that quotes all arguments.
            return (step.handler(*arguments),)

    def _max_attempts(self, task: ClaimedTask) -> int | None:
        """How often the task is tried in all, by its step or else by its flow."""
        step = self._find(task)
        if step is None:
            return None
        own = step.options.max_attempts
        return step.flow.options.max_attempts if own is None else own

    async def _fail(self, task: ClaimedTask, error: BaseException) -> None:
        if type(error) is Stopped:  # not isinstance(), which asks an error of the handler
            self._end(task)
            return
        failure = await look_at(error)
        claimed = self._end(task, error, failure.traceback)
        if claimed is not None:
            until = claimed + task.timeout + OVERRUN
            text = failure.text if self._error_texts else failure.bare
            await self._settle(Outcome(task, None, text, failure.permanent, until))

    def _end(
        self, task: ClaimedTask, error: BaseException | None = None, traceback: str = ""
    ) -> float | None:
        """Report the end of an attempt. Return when it was claimed.

        Return None if it has no outcome to settle: it was given up, or stopped.
        """
        claimed = self._ledger.close(task)
        if self._told:
            self._told.pop(id(task), None)
        if claimed is None:
            return None
        now = trio.current_time()
        self._slots.leave(task, claimed, now)
        why = self._ledger.stops.get(id(task)) if self._ledger.stops else None
        if hooks := [hook for hook in self._hooks if why or error is not None or heeds(hook)]:
            self._report(hooks, task, now - claimed, error, traceback)
        if why:
            self._drop(task)
            return None
        return claimed

    def _report(
        self,
        hooks: Sequence[Hook],
        task: ClaimedTask,
        seconds: float,
        error: BaseException | None,
        traceback: str,
    ) -> None:
        outcome: Literal["completed", "failed"] = "completed" if error is None else "failed"
        why = self._ledger.stops.get(id(task))
        event = TaskEvent(
            task.flow_slug,
            task.step_slug,
            task.run_id,
            task.task_index,
            task.attempt,
            "stopped" if why else outcome,
            seconds,
            error,
            traceback,
            self._max_attempts(task),
            bool((step := self._find(task)) and step.is_map),
            why,
        )
        for hook in hooks:
            try:
                hook(event)
            except BaseException:  # hooks may raise anything, as handlers may
                log.exception("a hook raised an error", extra=about(task))

    async def give_up_late(self) -> None:
        """Fail the attempts whose handlers ignore their timeout, until cancelled.

        The handlers are left to end by themselves, like those in threads; their slots are free.
        """
        with self._standstills.watch():
            await self._give_up_late()

    async def _give_up_late(self) -> None:
        while True:
            await self._begun.wait()
            while self._ledger.open:
                await trio.sleep(TICK)
                late = trio.current_time() - OVERRUN
                for task, claimed in list(self._ledger.open.values()):
                    if claimed + task.timeout + self._standstills.of(task) < late:
                        await self._give_up(task)
            self._begun = trio.Event()

    async def _give_up(self, task: ClaimedTask) -> None:
        if any(running is task for running in self.running):
            log.error("%s ignores its timeout: giving it up", task, extra=about(task))
            await self._fail(task, HandlerTimeout(f"{self._too_long(task)} and goes on"))
        else:
            await self._fail(task, HandlerTimeout(self._not_loaded(task)))

    def _not_loaded(self, task: ClaimedTask) -> str:
        """The error of an attempt whose handler was not called in time."""
        beside = self._standstills.beside(task)
        return f"the input was not loaded within the timeout of {task.timeout} s{beside}"

    def _too_long(self, task: ClaimedTask) -> str:
        """The error of an attempt whose handler was cancelled at its timeout."""
        beside = self._standstills.beside(task)
        return f"the handler took longer than its timeout of {task.timeout} s{beside}"
