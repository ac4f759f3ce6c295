"""Lets the faults of a plan happen."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from pgflow_events.postgres.calls import Calls
from pgflow_events.postgres.connection import Connection
from tests.parts.servers.own_server import OwnServer
from tests.torture.crew import Crew
from tests.torture.disturbing import Disturbances
from tests.torture.plan import Fault

ME = "torture_control"
SOON = 0.02  # seconds until there may be a process again to send a signal to
TERMINATE = """
with victims as (
  select pid, row_number() over (order by pid) - 1 as n, count(*) over () as many
  from pg_stat_activity
  where
    datname = current_database() and backend_type = 'client backend'
    and application_name <> %s
)
select pg_terminate_backend(pid) from victims where n = floor(%s * many)
"""


@dataclass(frozen=True, slots=True)
class Happened:
    """A fault that happened, in seconds since 1970."""

    kind: str
    pid: int | None
    at: float
    until: float | None


@dataclass
class Injector:
    """Lets faults happen.

    Attributes:
        happened: What did.
    """

    server: OwnServer
    crew: Crew
    control: Calls
    disturbances: Disturbances
    happened: list[Happened] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._nobody = self.disturbances.nobody

    async def run(self, plan: Sequence[Fault], seconds: float) -> None:
        """Let all of them happen in their time, within so many seconds."""
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            for fault in plan:
                await trio.sleep_until(start + fault.at)
                nursery.start_soon(self._inject, fault)
            await trio.sleep_until(start + seconds)

    @property
    def counts(self) -> Counter[str]:
        """How many of each kind happened."""
        return Counter(fault.kind for fault in self.happened)

    async def _inject(self, fault: Fault) -> None:
        if fault.kind == "crash":
            async with self._nobody:
                await self._crash(fault.length)
        elif fault.kind == "backend":
            async with self._nobody:  # there must be one
                await self._terminate(fault.where)
        elif fault.kind.startswith("SIG"):
            await self._signal(fault)
        else:
            await self._disturb(fault)

    async def _disturb(self, fault: Fault) -> None:
        at = time.time()
        if kind := await self.disturbances.disturb(fault):
            self.happened.append(Happened(kind, None, at, time.time()))

    async def _crash(self, length: float) -> None:
        at = time.time()
        await trio.to_thread.run_sync(self.server.stop, "immediate")
        await trio.sleep(length)
        await trio.to_thread.run_sync(self.server.start)
        self.happened.append(Happened("crash", None, at, time.time()))

    async def _terminate(self, where: float) -> None:
        async def terminate(connection: Connection) -> bool:
            return bool(await (await connection.execute(TERMINATE, [ME, where])).fetchall())

        at = time.time()
        if await self.control.make(terminate):
            self.happened.append(Happened("backend", None, at, None))

    async def _signal(self, fault: Fault) -> None:
        at = time.time()
        while not (pid := self.crew.signal(fault.kind, fault.where)):
            await trio.sleep(SOON)
            at = time.time()
        self.happened.append(Happened(fault.kind, pid, at, None))
        if fault.kind == "SIGSTOP":
            await trio.sleep(fault.length)
            self.crew.go_on(pid)
