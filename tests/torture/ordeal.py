"""One torture: workers, what they have to do, and what goes wrong meanwhile."""

from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import trio
from psycopg.conninfo import make_conninfo

from pgflow_events import connect
from pgflow_events.core.flows import define_flow
from pgflow_events.flow.flow import Flow
from pgflow_events.postgres.calls import Calls
from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.pool import Pool
from tests.parts.servers.own_server import OwnServer
from tests.torture.behaviour import Given
from tests.torture.commands import ENOUGH, call, work_in_sql
from tests.torture.crew import Crew, work, work_as_command
from tests.torture.disturbing import Disturbances, Way
from tests.torture.flows import FLOWS, MAKE_PLAIN
from tests.torture.injecting import ME, Injector
from tests.torture.load import Load
from tests.torture.plan import faults

PROGRESS = 10.0  # seconds
DRAIN = 90.0  # seconds for all to end, once nothing goes wrong any more; a client's net is 60
LOOK = 0.1  # seconds between two looks whether all has ended
LEAVING = 40.0  # seconds the last workers have to end
TASKS = "select count(*) from torture.changes where step_slug is not null"
SEATS = "select count(*) from pgflow.worker_seats"


class Ordeal:
    """A torture with one seed.

    Attributes:
        drained: Seconds from the last fault until all had ended, or None if it never did.
        left: Whether the last workers ended when they were told to.
    """

    def __init__(
        self,
        seed: int,
        seconds: float,
        server: OwnServer,
        dsn: str,
        *,
        workers: int,
        folder: Path,
        say: Callable[[str], object],
    ) -> None:
        self.seed, self.seconds = seed, seconds
        self.folder, self.server, self.dsn = folder, server, dsn
        self._say = say
        self.way = Way(dsn)
        self.crew = Crew(folder, workers)
        self.drained: float | None = None
        self.left = False

    async def endure(self) -> None:
        """Let it all happen, and then all come to its end."""
        own = make_conninfo(self.dsn, application_name=ME)
        try:
            async with Pool(own, max_size=3) as pool, connect(self.dsn) as client:
                self._control = Calls(pool, 30)
                await self._define()
                self.load = Load(self.seed, client, self._control)
                async with trio.open_nursery() as crew:
                    await crew.start(self.way.run)
                    self._gather()
                    crew.start_soon(self.crew.run)
                    await self._assemble()
                    async with trio.open_nursery() as clients:
                        await self._suffer(clients)
                        await self._drain()
                        clients.cancel_scope.cancel()
                    await self._leave()
                    crew.cancel_scope.cancel()
        finally:
            self.crew.kill()

    def _gather(self) -> None:
        """Workers of two kinds, some of each on a way that fails, a client, and one in SQL."""
        ways, number = (self.dsn, self.way.dsn), self.crew.workers
        commands = [
            partial(work_as_command, ways[slots < 5], self.folder, slots)
            for slots in islice(cycle((40, 3)), number * 2 // 5)
        ]
        workers = [
            partial(work, ways[n % 3 == 2], self.folder) for n in range(number - len(commands))
        ]
        others = [partial(each, self.dsn, self.folder, self.seed) for each in (call, work_in_sql)]
        self.crew.targets = [*workers, *commands, *others]
        tables = self.server.folder / "data"
        disturbances = Disturbances(
            ME, self.dsn, self.crew, self._control, self.way, tables, trio.Lock()
        )
        self.injector = Injector(self.server, self.crew, self._control, disturbances)

    async def _define(self) -> None:
        def define(flow: Flow[Given], connection: Connection) -> object:
            return define_flow(connection, flow.definition())

        for flow in FLOWS:
            await self._control.make(partial(define, flow))

        async def make_plain(connection: Connection) -> None:
            await connection.execute(MAKE_PLAIN.encode())

        await self._control.make(make_plain)

    async def _assemble(self) -> None:
        """Return when all workers are there."""
        while await self._count(SEATS) < self.crew.workers:  # noqa: ASYNC110 - no event
            await trio.sleep(LOOK)

    async def _suffer(self, clients: trio.Nursery) -> None:
        async with trio.open_nursery() as telling:
            telling.start_soon(self._tell)
            async with trio.open_nursery() as working:
                working.start_soon(self.load.run, clients)
                await self.injector.run(faults(self.seed, self.seconds), self.seconds)
                self.load.closed = True
                (self.folder / ENOUGH).touch()
            telling.cancel_scope.cancel()

    async def _tell(self) -> None:
        start = trio.current_time()
        while True:
            await trio.sleep(PROGRESS)
            counts = dict(self.injector.counts)
            under_way = await self.load.under_way()
            tasks = await self._count(TASKS)
            elapsed = trio.current_time() - start
            self._say(f"{elapsed:4.0f} s: {tasks} tasks, {under_way} runs under way, {counts}")

    async def _count(self, query: str) -> int:
        async def count(connection: Connection) -> int:
            ((number,),) = await (await connection.execute(query.encode())).fetchall()
            return int(number)

        return await self._control.make(count)

    async def _drain(self) -> None:
        start = trio.current_time()
        with trio.move_on_after(DRAIN):
            while self.load.waiting or await self.load.under_way():  # noqa: ASYNC110 - no event
                await trio.sleep(LOOK)
            self.drained = trio.current_time() - start

    async def _leave(self) -> None:
        """Let the workers end; those that do not are killed."""
        self.crew.leave()
        with trio.move_on_after(LEAVING):
            await self.crew.gone.wait()
            self.left = True
        self.crew.kill()
