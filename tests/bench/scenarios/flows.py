"""What a worker of many flows pays for those that have nothing to do."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import cycle, islice
from uuid import UUID

import trio

from pgflow_events import Flow, Settings, Worker, connect
from pgflow_events.bench import tables as queries
from pgflow_events.bench.measured import Figures, Measured, latencies, rate, scaled
from pgflow_events.bench.scenarios.drain import Waiting, by_hand
from pgflow_events.bench.scenarios.rest import Caller, caller
from pgflow_events.postgres.connection import Connection
from tests.bench.measuring import progress

NUMBERS = (1, 10, 100, 400)
BACKLOG_OF = 20  # flows
ROUNDS, STARTS, WARM = 8, 10, 10
RUNS = 2_000
STEPS = 2


async def flows(dsn: str) -> list[Measured]:
    """Runs of two steps, in a worker of 1, 10, 100 and 400 flows, which is idle otherwise.

    The workers are there at the same time, and get their runs in turns, after 20 ms of rest each.
    The floor is the worker of one flow. Then runs of up to 20 of its flows wait for each worker.
    """
    numbers = dict.fromkeys(number if number == 1 else scaled(number) for number in NUMBERS)
    crowds = [Crowd(number) for number in numbers]
    async with AsyncExitStack() as stack:
        call = await stack.enter_async_context(caller(dsn))
        for crowd in crowds:
            progress(f"a worker defines {crowd}")
            await stack.enter_async_context(crowd.idle(dsn))
            await crowd.call(call, WARM)
            crowd.forget()
        for number in range(ROUNDS):
            progress(f"round {number + 1} of {ROUNDS}")
            for crowd in crowds:
                await crowd.call(call, scaled(STARTS))
    for crowd in crowds:
        progress(f"a backlog for a worker of {crowd}")
        await crowd.drain(dsn, scaled(RUNS))
    return [measured for crowd in crowds for measured in crowd.measured(crowds[0])]


class Crowd:
    """A worker of some flows of two steps, and when handlers of the first steps started.

    Attributes:
        began: Seconds from each client's call to the handler of the first step.
        ended: Seconds from each client's call until the client knew that the run had ended.
        rate: Runs a second of a backlog.
        by_hand: The same for as many jobs of a plain table.
    """

    def __init__(self, number: int) -> None:
        self._note, self._noted = trio.open_memory_channel[float](1000)
        self.flows = [self._flow(f"bench_{number}_{n}") for n in range(number)]
        self.began: list[float] = []
        self.ended: list[float] = []
        self.rate: dict[str, float] = {}
        self.by_hand: dict[str, float] = {}

    def __str__(self) -> str:
        return f"{len(self.flows)} flow{'s' * (len(self.flows) > 1)}"

    def _flow(self, slug: str) -> Flow[int]:
        flow = Flow(slug, input=int)

        @flow.step(flow.input)
        async def first(run: int) -> int:
            self._note.send_nowait(time.monotonic())
            return run

        @flow.step(first)
        async def second(run: int) -> int:
            return run

        return flow

    @asynccontextmanager
    async def idle(self, dsn: str) -> AsyncIterator[None]:
        """Run the worker."""
        async with trio.open_nursery() as nursery:
            worker = Worker(self.flows, dsn, hooks=[])
            await nursery.start(worker.run)
            yield
            worker.stop()

    async def call(self, call: Caller, count: int) -> None:
        """Start runs of one flow after the other, each when the last one has ended."""
        slugs = [flow.slug for flow in islice(cycle(self.flows), count)]
        runs, _ = await call(slugs, wait=True)
        for began, _, ended in runs:
            self.began.append(await self._noted.receive() - began)
            self.ended.append((ended or 0) - began)

    def forget(self) -> None:
        """Forget the warm-up."""
        self.began.clear()
        self.ended.clear()

    async def drain(self, dsn: str, runs: int) -> None:
        """Work off runs that wait, of at most 20 flows."""
        some = self.flows[:BACKLOG_OF]
        async with connect(dsn) as client, await Connection.connect(dsn) as connection:
            run_ids: list[UUID] = []
            for flow in some:
                started = await client.start_many(flow, range(runs // len(some)))
                run_ids += [run.id for run in started]
            waiting = Waiting(connection, run_ids)
            async with self.idle(dsn):
                await waiting.done()
            self.rate = rate(len(run_ids), await waiting.seconds())
            await queries.run(connection, queries.CLEAR_RUNS, run_ids)
        seconds = await by_hand(dsn, len(run_ids) * STEPS, 1, Settings().slots)
        self.by_hand = rate(len(run_ids), seconds)

    def measured(self, floor: "Crowd") -> list[Measured]:
        """The figures, with those of the worker of one flow as their floor."""

        def one(what: str, unit: str, ours: Figures, least: Figures) -> Measured:
            setting = f"{self}, {what}"
            return Measured(
                setting=setting, unit=unit, ours=ours, floor={} if floor is self else least
            )

        return [
            one("client.start to handler", "ms", latencies(self.began), latencies(floor.began)),
            one("client.start to the end", "ms", latencies(self.ended), latencies(floor.ended)),
            replace(
                one("backlog", "runs/s", self.rate, floor.rate), beside={"by hand": self.by_hand}
            ),
        ]
