"""A worker: one nursery with one task a role."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any, TypeVarTuple
from uuid import uuid4

import trio

from blobstore import Blobs
from pgflow_events.core import tasks as queries
from pgflow_events.core import workers as seats
from pgflow_events.core.notices import Notices
from pgflow_events.core.tasks import Claim, ClaimedTask, Outcome
from pgflow_events.errors import DefinitionError, FlowMismatch, Misuse
from pgflow_events.flow.flow import Flow
from pgflow_events.handlers.processes import check_installed
from pgflow_events.misuse import need_trio
from pgflow_events.postgres.calls import Calls
from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.listener import Listener
from pgflow_events.postgres.pool import Pool
from pgflow_events.schema.migrations import check_schema
from pgflow_events.service.malloc import map_large_blocks
from pgflow_events.service.shutdown import Shutdown, Signals
from pgflow_events.service.systemd import NotifySocket, Service, watchdog_time
from pgflow_events.settings import Settings
from pgflow_events.telemetry import Hook, about, log_task
from pgflow_events.worker.claims import NOTHING, Claims
from pgflow_events.worker.commits import Commits, wake_others
from pgflow_events.worker.completer import Completer
from pgflow_events.worker.dispatcher import Dispatcher
from pgflow_events.worker.executor import Executor
from pgflow_events.worker.housekeeping import SelfCheck, keep_house
from pgflow_events.worker.lapses import Lapses
from pgflow_events.worker.leaving import Leaving
from pgflow_events.worker.ledger import Tally
from pgflow_events.worker.liveness import Liveness
from pgflow_events.worker.persisting import persist, persist_once_started

LAST_COMMIT = 5.0  # seconds for what is done already, once told twice to leave
HURRY = 1.0  # seconds that a call which is cancelled then may take

log = logging.getLogger("pgflow_events.worker")

Args = TypeVarTuple("Args")
Resources = Callable[[], AbstractAsyncContextManager[Mapping[str, Any]]]


class Worker:
    """Runs the tasks of some flows.

    Args:
        flows: The flows; each is defined in the database, or compared with what is stored there.
        dsn: Where the database is, as libpq takes it.
        settings: How many tasks run at once, and other numbers.
        resources: Opens what handlers find in :attr:`Context.resources` (clients, pools), once,
            and closes it when the worker ends.
        hooks: Told of every attempt that ended.

    Attributes:
        id: Its number, in ``step_tasks.worker_id``.
        is_stopping: Whether it was told to stop.
        has_left_tasks: Whether it ended with tasks that were neither settled nor given back, as the
            database did not answer in time. Its peers free them, or the timeouts do.
    """

    def __init__(
        self,
        flows: Sequence[Flow[Any]],
        dsn: str = "",
        *,
        settings: Settings | None = None,
        resources: Resources = lambda: nullcontext({}),
        hooks: Sequence[Hook] = (log_task,),
    ) -> None:
        if twice := [slug for slug, n in Counter(flow.slug for flow in flows).items() if n > 1]:
            raise DefinitionError(f"flow {twice[0]!r} is given twice")
        check_installed(step for flow in flows for step in flow.steps.values())
        self.id = uuid4()
        self._flows = flows
        self._slugs = [flow.slug for flow in flows]
        self._dsn = dsn
        self._settings = Settings.of(settings)
        self._resources = resources
        self._hooks = hooks
        self._liveness = Liveness(self.id, self._slugs, dsn, self._settings)
        self._notices = Notices()
        self._pool = Pool(
            dsn, max_size=self._settings.connections, on_connect=self._introduce_session
        )
        self._calls = Calls(self._pool, self._settings.call_timeout)
        self._blobs = self._new_blobs()
        self._tally = Tally()
        self._leaving = Leaving(self.id, self._pool, self._tally, self._liveness)
        self._has_claimed = trio.Event()
        self._service = self._new_service()
        self._shutdown = self._new_shutdown()
        self.is_stopping = self.has_left_tasks = self._has_run = False
        self._beginning = trio.CancelScope()
        """Of what comes before the work, and is given up if the worker is stopped meanwhile."""
        self._committing = trio.CancelScope()
        self._tasks: trio.Nursery | None = None
        self._dispatcher = Dispatcher(
            self._claim, self._start, self._settings.slots, self._settings.input_budget
        )
        wake = partial(wake_others, self._pool, self._settings.call_timeout)
        self._claims = Claims(
            self._calls,
            self._slugs,
            self.id,
            self._settings.slots,
            notify=wake,
            wake=self._dispatcher.wake,
        )
        self._lapses = Lapses(self._claims, self._dispatcher)
        self._commits = Commits(
            self._calls, self._blobs, self._tally, self.id, self._claims.slugs_in_turn
        )
        self._completer = Completer(
            self._dispatcher, self._settings.slots, self._complete, self._commits.rehearse, wake
        )
        self._check = SelfCheck(self._calls, self._dispatcher, self._settings)

    def _new_blobs(self) -> Blobs:
        return Blobs(
            self._calls.make,
            cap=self._settings.value_cap,
            cache_budget=self._settings.cache_budget,
            keys=self._settings.keys,
            objects=self._settings.objects,
            object_threshold=self._settings.object_threshold,
            sealed_only=self._settings.sealed_only,
        )

    def _new_service(self) -> Service:
        return Service(
            NotifySocket.of(),
            watchdog_time(),
            ready=self._has_claimed.wait,
            status=self._status,
            change=self._tally.change,
            complaint=self._complaint,
        )

    def _new_shutdown(self) -> Shutdown:
        return Shutdown(
            self._settings.stop_timeout,
            stop=self._leave,
            cancel=self._cancel,
            leave=self._take_leave,
            running=lambda: self._tasks.child_tasks if self._tasks else (),
            name_running=self._name_running,
        )

    @property
    def handed_over(self) -> int:
        """Tasks that came with a completing commit, and needed no wake-up and no claim."""
        return self._completer.handed_over

    async def run(
        self,
        *,
        signals: bool | Signals = False,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Work until :meth:`stop` is called; if cancelled, leave tasks to the other workers.

        On glibc, the process maps large blocks of memory one by one from now on:
        docs/operate/tuning.md says why.

        Args:
            signals: Whether this is all the process does, in the main thread: SIGTERM, SIGINT
                and SIGHUP stop the worker, and systemd is told how it is. A second signal, or the
                end of ``stop_timeout``, cancels the handlers and gives their tasks back; further
                ones change nothing. If something does not heed that for 20 seconds, the process
                ends with exit code 1.
            task_status: Told when notifications arrive and the first claim is under way, or when
                the worker was stopped before.

        Raises:
            MigrationError: The database is not at the release of this package.
            FlowMismatch: A flow is stored with another shape.
            Misuse: It was called before.
            psycopg.OperationalError: The server refuses us before it has ever answered.
        """
        need_trio("Worker.run()")
        if self._has_run:
            raise Misuse("a Worker runs once: make another one")
        self._has_run = True
        map_large_blocks()
        if signals:
            self._service.say("connecting to the database")
        # The shutdown comes first: what closes pool and resources may hang.
        async with self._shutdown.heeding(signals):
            with trio.CancelScope() as self._beginning:
                async with self._pool, self._resources() as resources:
                    if await self._begin(self._calls.make, self._define):
                        await self._run(resources, task_status, is_service=bool(signals))
        if not self._tasks:
            task_status.started()

    async def _begin(self, step: Callable[[*Args], Awaitable[object]], *args: *Args) -> bool:
        """Take a step towards the work; whether the worker was not stopped meanwhile."""
        with trio.CancelScope() as self._beginning:
            await step(*args)
        return not self.is_stopping

    async def _run(
        self, resources: Mapping[str, Any], task_status: trio.TaskStatus[None], *, is_service: bool
    ) -> None:
        self._executor = Executor(
            self._flows,
            self._blobs,
            self._settle,
            resources=resources,
            hooks=self._hooks,
            hold=self._dispatcher.hold,
            error_texts=self._settings.stores_error_texts,
        )
        watch = partial(self._liveness.run, self._calls)
        async with trio.open_nursery() as presence:
            async with trio.open_nursery() as upkeep:
                if await self._begin(self._listen, presence, upkeep):
                    presence.start_soon(persist, watch, "watch the other workers")
                    if is_service:
                        presence.start_soon(self._service.run)
                    for role, name in self._upkeep():
                        upkeep.start_soon(persist, role, name)
                    task_status.started()
                    await self._work()
                # They may hold the last connection, which is needed to leave.
                self._pool.hurry(HURRY)
                upkeep.cancel_scope.cancel()
            self._shutdown.expect_end()
            await self._take_leave()
            presence.cancel_scope.cancel()

    def _upkeep(self) -> Iterator[tuple[Callable[[], Awaitable[object]], str]]:
        yield partial(keep_house, self._calls, self._blobs, self._slugs, self._settings), "tidy up"
        yield self._claims.run, "mend what cannot be claimed"
        yield self._lapses.run, "fail lapsed tasks"

    async def _work(self) -> None:
        """Claim, run and complete tasks, until stopped and nothing is left at hand."""
        with self._committing:
            async with trio.open_nursery() as commits:
                commits.start_soon(self._completer.run)
                async with trio.open_nursery() as watch:
                    watch.start_soon(persist, self._executor.give_up_late, "give up late handlers")
                    async with trio.open_nursery() as self._tasks:
                        await persist(self._dispatcher.run, "claim tasks")
                    watch.cancel_scope.cancel()
                self._completer.close()

    def stop(self) -> None:
        """Claim no more tasks; :meth:`run` returns when those at hand are done."""
        self.is_stopping = True
        self._dispatcher.close()
        self._beginning.cancel()

    async def _introduce_session(self, connection: Connection) -> None:
        connection.add_notice_handler(self._notices.hear)
        await self._liveness.show_life(connection)

    async def _define(self, connection: Connection) -> None:
        await check_schema(connection)
        for flow in self._flows:
            if differences := await queries.define_flow(connection, flow.definition()):
                raise FlowMismatch(
                    f"flow {flow.slug!r} is stored with another shape: {'; '.join(differences)}."
                    " Give the new shape a slug of its own"
                )

    async def _listen(self, presence: trio.Nursery, upkeep: trio.Nursery) -> None:
        channels = await self._calls.make(
            lambda connection: queries.task_channels(connection, self._slugs)
        )
        peers = await self._calls.make(seats.workers_channel)

        def hear(channel: str) -> None:
            (self._liveness.look if channel == peers else self._dispatcher.wake)()

        def hear_all() -> None:
            self._liveness.look()
            self._dispatcher.wake()

        listener = Listener(
            self._settings.listen_dsn or self._dsn,
            [*channels, peers],
            hear,
            hear_all,
            on_listen=self._liveness.take_seat,
        )
        await presence.start(persist_once_started, listener.run, "listen")
        upkeep.start_soon(persist, partial(self._check.run, listener), "check notifications")

    def _status(self) -> str:
        """What systemd shows."""
        figures = f"{self._tally.running} of {self._settings.slots} slots in use"
        done = str(self._tally)
        return f"{figures}; {done}" if done else figures

    def _complaint(self, patience: float) -> str | None:
        """What has been wrong for longer than so many seconds. Idle, a self-check finds it out."""
        late = trio.current_time() - patience
        if self._calls.silent_since < late:
            return "the database does not answer"
        return "the self-check is late" if self._check.due < late else None

    def _leave(self) -> None:
        self.stop()
        self._service.leave()

    def _cancel(self) -> None:
        if self._tasks:
            self._tasks.cancel_scope.cancel()
        self._committing.deadline = trio.current_time() + LAST_COMMIT
        self._pool.hurry(HURRY)

    def _name_running(self) -> None:
        for task in self._executor.running if self._tasks else ():
            log.error(
                "%s does not heed its cancellation, and ends with the process",
                task,
                extra=about(task),
            )

    async def _take_leave(self) -> None:
        self._name_running()
        self.has_left_tasks = not await self._leaving.leave()

    def _start(self, tasks: list[ClaimedTask]) -> None:
        self._tally.take(tasks)
        # A commit may outlast the tasks that were cancelled: what it claimed is given back.
        if self._tasks and not self._tasks.cancel_scope.cancel_called:
            self._tasks.start_soon(self._executor.execute_all, tasks)

    async def _claim(self, qty: int, max_bytes: int) -> Claim:
        claim = await self._claims.claim(qty, max_bytes)
        if claim is not NOTHING:
            self._has_claimed.set()
        return self._lapses.heeded(claim)

    async def _settle(self, outcome: Outcome) -> None:
        await self._completer.settle(outcome)
        self._tally.put_down()

    async def _complete(
        self, outcomes: Sequence[Outcome], qty: int, max_bytes: int, patience: float
    ) -> Claim:
        claim = await self._commits.complete(outcomes, qty, max_bytes, patience)
        return self._lapses.heeded(claim)
