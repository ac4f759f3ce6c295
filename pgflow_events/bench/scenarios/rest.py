"""What a single task takes after a rest, when caches are cold and processors sleep."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import trio

from pgflow_events.bench import process
from pgflow_events.bench import tables as queries
from pgflow_events.bench.measured import Measured, latencies, scaled
from pgflow_events.bench.scenarios.chain import one_by_one
from pgflow_events.bench.scenarios.wake import CHANNEL, FLOW, Starter, by_hand, idle_worker, starter
from pgflow_events.service import child

ROUNDS, STARTS, WARM = 5, 40, 10
GAP = 0.02  # seconds of rest before each call, on average

Run = tuple[float, float, float | None]
Job = tuple[float, float]


@dataclass
class Times:
    """Seconds that the engine took, or the floor."""

    wake_up: list[float] = field(default_factory=list)
    call: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)

    def add_commits(self, commits: Sequence[float], handled: Sequence[float]) -> None:
        """Add the times from the return of each COMMIT to the handler."""
        self.wake_up += [at - commit for commit, at in zip(commits, handled, strict=True)]

    def add_calls(self, calls: Sequence[Job], handled: Sequence[float]) -> None:
        """Add the times of the calls, and those from each call to the handler."""
        self.call += [returned - began for began, returned in calls]
        self.whole += [at - began for (began, _), at in zip(calls, handled, strict=True)]


async def rest(dsn: str) -> list[Measured]:
    """One run at a time, each after a rest of 20 ms.

    The first times are from the return of COMMIT to the handler's start in an idle worker, with the
    floor of `wake`. The next ones are those of `client.start`, and from this call to the handler.
    Their floor adds a job with its NOTIFY in one statement, and claims it in another one. The last
    ones are those of `chain`, idle.
    """
    ours, floor = Times(), Times()
    async with (
        starter(dsn) as start,
        caller(dsn) as call,
        idle_worker(dsn) as started,
        by_hand(dsn) as heard,
    ):
        rooms = (started, heard)
        await one_round(start, call, rooms, (Times(), Times()), WARM)
        for _ in range(ROUNDS):
            await one_round(start, call, rooms, (ours, floor), scaled(STARTS))
    chain = replace(await one_by_one(dsn), setting="chain of four")
    return [
        measured("COMMIT returned to handler", ours.wake_up, floor.wake_up),
        measured("client.start", ours.call, floor.call),
        measured("client.start to handler", ours.whole, floor.whole),
        chain,
    ]


def measured(setting: str, ours: list[float], floor: list[float]) -> Measured:
    """The latencies of both."""
    return Measured(setting=setting, unit="ms", ours=latencies(ours), floor=latencies(floor))


async def one_round(
    start: Starter,
    call: "Caller",
    rooms: tuple[trio.MemoryReceiveChannel[float], trio.MemoryReceiveChannel[tuple[float, float]]],
    times: tuple[Times, Times],
    count: int,
) -> None:
    """Add the times of the engine and of the floor."""
    (started, heard), (ours, floor) = rooms, times
    commits = await start(queries.START_RUN, [(FLOW, n) for n in range(count)], GAP, returned=True)
    ours.add_commits(commits, [await started.receive() for _ in commits])
    parameters = [(n, CHANNEL) for n in range(count)]
    commits = await start(queries.ADD_JOB, parameters, GAP, returned=True)
    floor.add_commits(commits, [(await heard.receive())[1] for _ in commits])
    runs, jobs = await call([FLOW] * count, channel=CHANNEL)
    ours.add_calls([run[:2] for run in runs], [await started.receive() for _ in runs])
    floor.add_calls(jobs, [(await heard.receive())[1] for _ in jobs])


class Caller:
    """Makes another process start runs as a client, and add jobs by hand in turns with them."""

    def __init__(self, other: child.Child) -> None:
        self._other = other

    async def __call__(
        self, slugs: Sequence[str], *, channel: str | None = None, wait: bool = False
    ) -> tuple[list[Run], list[Job]]:
        """Start a run of each flow. Return the times of the runs, and of the jobs.

        Args:
            slugs: The flows.
            channel: What each job notifies; None to add no jobs.
            wait: Whether the client waits for the end of each run.
        """
        await self._other.send({"slugs": slugs, "gap": GAP, "channel": channel, "wait": wait})
        runs, jobs = await self._other.receive()
        return [tuple(run) for run in runs], [tuple(job) for job in jobs]


@asynccontextmanager
async def caller(dsn: str) -> AsyncIterator[Caller]:
    """A process that calls for us."""
    async with child.start(process.MODULE, {"role": "call", "dsn": dsn}) as other:
        await other.receive()
        yield Caller(other)
