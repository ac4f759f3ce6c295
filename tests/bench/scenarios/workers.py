"""What idle workers of the same flow cost the one that gets a task, and the server."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import psycopg
import trio

from pgflow_events.bench import tables as queries
from pgflow_events.bench.measured import MILLISECONDS, Figures, Measured, latencies, scaled
from pgflow_events.bench.scenarios.wake import CHANNEL, Starter, by_hand, starter
from tests.bench.cpu import postmaster_of, server_cpu
from tests.bench.herd import FLOW, HOLD, Herd
from tests.bench.measuring import progress

NUMBERS = (1, 4, 16, 64)
ROUNDS, STARTS, WARM = 5, 20, 5
KILLS = 10
REST = 0.02  # seconds before each start, on average
AFTER = 0.1  # seconds until vain claims are over, too

Heard = trio.MemoryReceiveChannel[tuple[float, float]]


async def workers(dsn: str) -> list[Measured]:
    """Lone runs, of which 1, 4, 16 and 64 idle workers of one flow are told.

    From the return of COMMIT to the handler's start, and the CPU of the server for a run. The floor
    is a NOTIFY to one listener, which claims by one query, while as many workers listen to others:
    PostgreSQL up to 18 wakes every session that listens to anything. Then the worker that got the
    last run is busy, stopped or killed, with all workers of its process.
    """
    found: list[Measured] = []
    for number in dict.fromkeys(n if n == 1 else scaled(n) for n in NUMBERS):
        progress(f"{number} idle workers")
        async with starter(dsn) as start, by_hand(dsn) as heard:
            found += await of_herd(dsn, number, start, heard)
    return found


async def of_herd(dsn: str, number: int, start: Starter, heard: Heard) -> list[Measured]:
    """All that is measured of so many workers."""
    herd = Herd(dsn, number)
    name = f"{number} worker{'s' * (number > 1)}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        postmaster = postmaster_of(connection)
    async with herd.run():
        lone = Lone(herd, start, heard, postmaster)
        ours, floor = await lone.measure()
        found = [Measured(setting=name, unit="ms", ours=ours, floor=floor)]
        for what, way in lone.ways.items() if number > 1 else ():
            progress(f"{name}, the last one {what}")
            times = [await way() for _ in range(scaled(KILLS if what == "dead" else STARTS))]
            setting = f"{name}, the last one {what}"
            found.append(Measured(setting=setting, unit="ms", ours=latencies(times), floor=floor))
    return found


class Lone:
    """Starts lone runs for a herd, and jobs by hand for the floor."""

    def __init__(self, herd: Herd, start: Starter, heard: Heard, postmaster: int | None) -> None:
        self._herd, self._start, self._heard = herd, start, heard
        self._postmaster = postmaster
        self._last = 0  # the process that got the last run
        self.ways: dict[str, Callable[[], Awaitable[float]]] = {
            "busy": self._busy,
            "stopped": self._stopped,
            "dead": self._dead,
        }

    async def measure(self) -> tuple[Figures, Figures]:
        """The figures of the herd, and of the floor, in turns."""
        spent = {self._runs: Spent(), self._jobs: Spent()}
        for way in spent:
            await way(WARM)
        for _ in range(ROUNDS):
            for way, all_of_it in spent.items():
                before = self._server_cpu()
                all_of_it.times += await way(scaled(STARTS))
                await trio.sleep(scaled(120) / 100)  # for workers that look a second later
                all_of_it.cpu += self._server_cpu() - before
        ours, floor = [each.figures() for each in spent.values()]
        return ours, floor

    async def _runs(self, count: int) -> list[float]:
        """Seconds from each COMMIT to the handler."""
        committed = await self._start(
            queries.START_RUN, [(FLOW, n) for n in range(count)], REST, returned=True
        )
        return [await self._handler() - at for at in committed]

    async def _handler(self) -> float:
        self._last, at = await self._herd.handler()
        return at

    async def _jobs(self, count: int) -> list[float]:
        """Seconds from each COMMIT to the claim by hand."""
        parameters = [(n, CHANNEL) for n in range(count)]
        committed = await self._start(queries.ADD_JOB, parameters, REST, returned=True)
        return [(await self._heard.receive())[1] - at for at in committed]

    async def _busy(self) -> float:
        await self._start(queries.START_RUN, [(FLOW, HOLD)], REST)
        await self._handler()
        (seconds,) = await self._runs(1)
        await self._herd.release()
        await trio.sleep(AFTER)
        return seconds

    async def _stopped(self) -> float:
        with self._herd.stopped(self._last):
            (seconds,) = await self._runs(1)
        await trio.sleep(AFTER)
        return seconds

    async def _dead(self) -> float:
        self._herd.kill(self._last)
        (seconds,) = await self._runs(1)
        await self._herd.complete()
        await trio.sleep(AFTER)
        return seconds

    def _server_cpu(self) -> float:
        return server_cpu(self._postmaster) if self._postmaster else 0.0


@dataclass
class Spent:
    """Seconds until each was claimed, and of the server's CPU for all of them."""

    times: list[float] = field(default_factory=list)
    cpu: float = 0.0

    def figures(self) -> Figures:
        """The percentiles, and the CPU where it is known."""
        cpu = {"server CPU, ms": self.cpu / len(self.times) * MILLISECONDS} if self.cpu else {}
        return {**latencies(self.times), **cpu}
