"""The worker runs the tasks of flows.

    async with trio.open_nursery() as nursery:
        worker = Worker([greet], dsn, settings=Settings(slots=200))
        await nursery.start(worker.run)  # returns when the worker takes tasks
        await serve()  # whatever else the program does
        worker.stop()  # the block ends when the tasks at hand are done

A process that does nothing else calls ``trio.run(partial(worker.run, signals=True))``, as the
command ``pgflow-events worker`` does. A worker is one nursery, with a trio task for each role.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any, TypeVarTuple
from uuid import uuid4

import trio

from blobstore import Blobs
from pgflow_events.core.notices import Notices
from pgflow_events.core.tasks import ClaimedTask
from pgflow_events.errors import DefinitionError, Misuse
from pgflow_events.flow.flow import Flow
from pgflow_events.flow.option_faults import quoted
from pgflow_events.handlers.forked import ending_forked_loops
from pgflow_events.handlers.processes import check_installed
from pgflow_events.misuse import need_trio
from pgflow_events.postgres.calls import Calls
from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.pool import Pool
from pgflow_events.service.malloc import map_large_blocks
from pgflow_events.service.shutdown import Shutdown, Signals
from pgflow_events.service.systemd import NotifySocket, Service, watchdog_time
from pgflow_events.settings import Settings
from pgflow_events.telemetry import Hook, about, log_task
from pgflow_events.worker.claiming.claims import Claims
from pgflow_events.worker.claiming.dispatcher import Dispatcher
from pgflow_events.worker.claiming.lapses import Lapses
from pgflow_events.worker.claiming.returns import Returns
from pgflow_events.worker.claiming.slots import Slots
from pgflow_events.worker.claiming.turns import Turns
from pgflow_events.worker.entering import Entering
from pgflow_events.worker.executor import Executor
from pgflow_events.worker.health import Health
from pgflow_events.worker.housekeeping import SelfCheck, keep_house
from pgflow_events.worker.leaving import Leaving
from pgflow_events.worker.ledger import Ledger
from pgflow_events.worker.liveness import Liveness
from pgflow_events.worker.persisting import persist, persist_once_started
from pgflow_events.worker.settling.commits import Commits, wake_others
from pgflow_events.worker.settling.completer import Completer
from pgflow_events.worker.stops import Stops

LAST_COMMIT = 5.0  # seconds for what is done already, once told twice to leave
HURRY = 1.0  # seconds that a call which is cancelled then may take

log = logging.getLogger("pgflow_events.worker")

Args = TypeVarTuple("Args")
Resources = Callable[[], AbstractAsyncContextManager[Mapping[str, Any]]]


class Worker:
    """Runs the tasks of some flows.

    Args:
        flows: A list of flows. The worker defines each in the database when it starts, or compares
            it with the stored one.
        dsn: The database, as a connection string for libpq. The empty one leaves everything to
            libpq's environment variables.
        settings: The number of slots, and other settings. None takes the defaults.
        resources: An async context manager that opens what handlers find in
            :attr:`Context.resources`, such as clients and pools. The worker enters it once, and
            leaves it when it ends.
        hooks: Functions that the worker calls with a `TaskEvent` after each attempt.

    Attributes:
        id: The id of the worker, a UUID, which is in ``step_tasks.worker_id``.
        is_stopping: Whether the worker was told to stop.
        has_left_tasks: Whether the worker ended with tasks that it neither settled nor gave back,
            because the database did not answer in time. Its peers free them, or the timeouts do.

    Raises:
        DefinitionError: Two of the flows have the same slug.
        SettingsError: A step is ``cpu_bound``, and the extra ``cpu`` is not installed.
        Misuse: `flows` is not a list of flows.
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
        if isinstance(flows, Flow) or not all(isinstance(flow, Flow) for flow in flows):
            raise Misuse(f"a worker takes a list of flows, as [flow], and not {quoted(flows)}")
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
        self.is_stopping = self.has_left_tasks = self._has_run = False
        self._beginning = trio.CancelScope()
        """Of what comes before the work, and is given up if the worker is stopped meanwhile."""
        self._committing = trio.CancelScope()
        self._tasks: trio.Nursery | None = None
        self._ledger = Ledger()
        self._notices = Notices()
        self._connect()
        self._share_out()

    def _connect(self) -> None:
        """Make what talks to the database: nothing is said yet."""
        settings = self._settings
        self._liveness = Liveness(self.id, self._slugs, self._dsn, settings)
        self._pool = Pool(
            self._dsn, max_size=settings.connections, on_connect=self._introduce_session
        )
        self._calls = Calls(self._pool, settings.call_timeout)
        self._blobs = self._new_blobs()
        self._leaving = Leaving(self.id, self._pool, self._ledger, self._liveness)

    def _share_out(self) -> None:
        """Make the roles, and tell each of the others whom it needs."""
        settings, calls = self._settings, self._calls
        self._slots = Slots(settings.slots)
        wake = partial(wake_others, self._pool, settings.call_timeout)
        turns = Turns(self._slugs, self._liveness.crowd)
        self._claims = Claims(calls, turns, self.id, settings.slots, notify=wake)
        self._dispatcher = Dispatcher(
            turns,
            self._claims.claim,
            self._start,
            settings.slots,
            settings.input_budget,
            ahead=self._slots.ahead,
        )
        self._returns = Returns(self.id, calls, self._ledger, self._dispatcher)
        self._lapses = Lapses(self._claims, self._dispatcher)
        self._commits = Commits(calls, self._blobs, self._ledger, self.id)
        self._completer = Completer(
            self._dispatcher,
            settings.slots + self._slots.most_ahead,
            self._commits.complete,
            self._commits.rehearse,
            wake,
        )
        self._check = SelfCheck(calls, self._dispatcher, settings)
        self._stops = Stops(self.id, calls, self._ledger, self._stop_handler)
        self._entering = Entering(
            calls, self._flows, self._claims, self._dispatcher, self._liveness, stops=self._stops
        )
        self._service = self._new_service()
        self._shutdown = self._new_shutdown()

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
        health = Health(self._ledger, self._settings.slots, self._calls, self._check)
        return Service(
            NotifySocket.of(),
            watchdog_time(),
            ready=self._claims.answered.wait,
            status=health.status,
            change=self._ledger.change,
            complaint=health.complaint,
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
        """How many tasks a completing commit handed over, without a wake-up or a claim."""
        return self._completer.handed_over

    async def run(
        self,
        *,
        signals: bool | Signals = False,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Work until :meth:`stop` is called.

        If cancelled, it gives nothing back: its peers free its tasks, or their timeouts do.

        With glibc, it makes the process map large blocks of memory one by one from then on:
        docs/operate/tuning.md says why.

        Args:
            signals: Whether the process has no other purpose, and this is its main thread. Then
                SIGTERM, SIGINT and SIGHUP stop the worker, and it reports its state to systemd. A
                second signal, or the end of ``stop_timeout``, cancels the handlers and gives
                their tasks back. Further signals change nothing. A handler
                that ignores its cancellation for 5 seconds is left behind: the process gives the
                tasks back and ends with exit code 1, as it does if anything else has not ended
                within 20 seconds.
            task_status: For ``nursery.start()``, which returns once notifications arrive and the
                first claim is under way, or the worker was stopped.

        Raises:
            MigrationError: The database is not at the release of this package.
            FlowMismatch: A flow is stored with another shape.
            Misuse: It was called before, or trio does not run.
            psycopg.OperationalError: The server refuses the worker before it has ever answered.
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
                    if await self._begin(self._entering.define):
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
            self._ledger,
            self._completer.settle,
            slots=self._slots,
            give_back=self._returns.give_back,
            drop=self._returns.drop,
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
        yield (
            partial(keep_house, self._pool, self._calls, self._blobs, self._slugs, self._settings),
            "tidy up",
        )
        yield self._claims.run, "mend what cannot be claimed"
        yield self._lapses.run, "fail lapsed tasks"
        yield self._stops.run, "stop handlers"

    async def _work(self) -> None:
        """Claim, run and complete tasks, until stopped and nothing is left at hand."""
        with self._committing, ending_forked_loops():
            async with trio.open_nursery() as commits:
                commits.start_soon(self._completer.run)
                async with trio.open_nursery() as watch:
                    watch.start_soon(persist, self._executor.give_up_late, "give up late handlers")
                    async with trio.open_nursery() as self._tasks:
                        await persist(self._dispatcher.run, "claim tasks")
                    watch.cancel_scope.cancel()
                self._completer.close()

    def stop(self) -> None:
        """Stop claiming tasks. :meth:`run` returns once the tasks at hand are done."""
        self.is_stopping = True
        self._dispatcher.close()
        self._beginning.cancel()

    async def _introduce_session(self, connection: Connection) -> None:
        connection.add_notice_handler(self._notices.hear)
        await self._liveness.show_life(connection)

    async def _listen(self, presence: trio.Nursery, upkeep: trio.Nursery) -> None:
        listener = await self._entering.listener(self._settings.listen_dsn or self._dsn)
        await presence.start(persist_once_started, listener.run, "listen")
        upkeep.start_soon(persist, partial(self._check.run, listener), "check notifications")

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
                "%s ignores its cancellation and ends with the process",
                task,
                extra=about(task),
            )

    async def _take_leave(self) -> None:
        self._name_running()
        self.has_left_tasks = not await self._leaving.leave()

    def _stop_handler(self, task: ClaimedTask, why: str) -> None:
        self._executor.stop(task, why)

    def _start(self, tasks: list[ClaimedTask]) -> None:
        self._ledger.enter(tasks)
        # A commit may outlast the tasks that were cancelled: what it claimed is given back.
        if self._tasks and not self._tasks.cancel_scope.cancel_called:
            self._tasks.start_soon(self._executor.execute_all, tasks)
