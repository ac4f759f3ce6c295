"""Starts runs, a backlog and a trickle of them, and waits for some as a client does."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from uuid import UUID

import psycopg
import trio

from blobstore.postgres.ids import new_id
from pgflow_events import Client, Flow, PgflowError, RunFailed
from pgflow_events.postgres.calls import Calls
from pgflow_events.postgres.connection import Connection
from tests.torture.behaviour import Given
from tests.torture.expected import values
from tests.torture.flows import files, flow_of, mortal
from tests.torture.map_flows import maps
from tests.torture.plan import is_backlog

BATCH = 40  # runs started at once
FEW = {files: 4, maps: 4}  # of megabytes each, or of many tasks
WAITING = 250  # runs under way are a backlog
CLIENTS = 100  # that wait at a time: on a slow machine no more than it can serve
TRICKLE = 0.07  # seconds between two runs that a client waits for
LOOK = 0.25  # seconds between two looks at the backlog
UNDER_WAY = "select count(*) from pgflow.runs where status = 'started'"
LOST = (psycopg.OperationalError, psycopg.InterfaceError, trio.TooSlowError)


@dataclass
class Load:
    """Starts runs.

    Attributes:
        started: The inputs of runs that were started, by their ids.
        repeated: Starts of which the answer was lost that had happened.
        latencies: Seconds from start to result, as clients saw it.
        told: When clients were told of the end of their runs, in seconds since 1970.
        wrong: What clients were told that is not so.
        waiting: How many clients wait for a result.
    """

    seed: int
    client: Client
    control: Calls
    started: dict[UUID, Given] = field(default_factory=dict)
    repeated: int = 0
    latencies: list[float] = field(default_factory=list)
    told: dict[UUID, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    waiting: int = 0
    closed: bool = False
    _numbers: "count[int]" = field(default_factory=count)

    async def run(self, clients: trio.Nursery) -> None:
        """Start runs until closed. Who waits for one does so in the other nursery."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pile_up)
            nursery.start_soon(self._trickle, clients)

    async def _pile_up(self) -> None:
        start = trio.current_time()
        while not self.closed:
            if is_backlog(trio.current_time() - start) and await self.under_way() < WAITING:
                await self.start(BATCH)
            else:
                await trio.sleep(LOOK)

    async def _trickle(self, clients: trio.Nursery) -> None:
        while not self.closed:
            await trio.sleep(TRICKLE)
            if self.waiting < CLIENTS:
                clients.start_soon(self._follow)

    async def _follow(self) -> None:
        began = time.monotonic()
        self.waiting += 1
        try:
            for run_id in await self.start(1):
                await self._compare(run_id, self.started[run_id])
        except (psycopg.Error, PgflowError) as error:
            self.wrong.append(f"{type(error).__name__}: {error}")
        self.latencies.append(time.monotonic() - began)
        self.waiting -= 1

    async def _compare(self, run_id: UUID, given: Given) -> None:
        """See that the run's client is told what came out of it."""
        run = await self.client.find(run_id)
        try:
            said = await run.result()
        except RunFailed:
            said = None
        self.told[run_id] = time.time()
        if said != values(given) and not (said is None and flow_of(given) is mortal):
            self.wrong.append(f"run {run_id} of {given}: {said!r:.200}")

    async def start(self, number: int) -> Sequence[UUID]:
        """Start runs, all of one flow."""
        inputs = self._inputs(number)
        ids = [new_id() for _ in inputs]
        await self._start(flow_of(inputs[0]), inputs, ids)
        self.started.update(zip(ids, inputs, strict=True))
        return ids

    def _inputs(self, number: int) -> list[Given]:
        """The next input, and some more of the same flow."""
        every = (Given(seed=self.seed, n=n) for n in self._numbers)
        first = next(every)
        flow = flow_of(first)
        same = (given for given in every if flow_of(given) is flow)
        return [first, *islice(same, min(number, FEW.get(flow, number)) - 1)]

    async def _start(self, flow: Flow[Given], inputs: Sequence[Given], ids: Sequence[UUID]) -> None:
        """Start runs, again until it is certain that they are there."""
        again = False
        while True:
            try:
                await self.client.start_many(flow, inputs, run_ids=ids)
            except psycopg.errors.UniqueViolation:
                if not again:
                    raise
                self.repeated += 1
                return
            except LOST:
                again = True
                await trio.sleep(LOOK)
            else:
                return

    async def under_way(self) -> int:
        """How many runs have not ended."""

        async def look(connection: Connection) -> int:
            ((number,),) = await (await connection.execute(UNDER_WAY)).fetchall()
            return int(number)

        return await self.control.make(look)
