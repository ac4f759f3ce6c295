"""Rounds: every peer and setting in turn, each on a fresh copy of its own database."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import trio

from tests.bench.peers import envs
from tests.bench.peers.catalog import Peer
from tests.bench.peers.databases import Database, Server
from tests.bench.peers.programs import Ended
from tests.bench.peers.results import Result
from tests.bench.peers.scenarios import SCENARIOS, Sizes, Stage

Key = tuple[str, str]


class Bench:
    """All measurements on one server."""

    def __init__(
        self,
        server: Server,
        folder: Path,
        results: list[Result],
        *,
        order: dict[str, Any],
        sizes: Sizes,
        deadline: float,
        tell: Callable[[str], None],
    ) -> None:
        self._server = server
        self._folder = folder
        self._results = results
        self._order = order
        self._sizes = sizes
        self._deadline = deadline
        self._tell = tell
        self._commands: dict[str, list[str]] = {}
        self._templates: dict[Key, Database] = {}
        self.noise: list[dict[str, float]] = []

    async def run(self, rounds: int, noise: Callable[[], dict[str, float]]) -> None:
        """Measure everything so many times, in turns; what is idle only once, all together."""
        with ExitStack() as stack:
            await self._prepare(stack)
            for number in range(rounds):
                self.noise.append(await trio.to_thread.run_sync(noise))
                self._tell(f"round {number + 1} of {rounds}")
                for result in self._in_turn(number):
                    await self._measure(result)
            async with trio.open_nursery() as nursery:
                for result in self._results:
                    if result.scenario == "idle":
                        nursery.start_soon(self._measure, result)

    async def _prepare(self, stack: ExitStack) -> None:
        """Make environments and template databases; what cannot be made is left out, and told."""
        for peer in {result.peer.name: result.peer for result in self._results}.values():
            try:
                self._commands[peer.name] = await trio.to_thread.run_sync(envs.command, peer)
                for setting in peer.settings:
                    database = stack.enter_context(self._server.database())
                    await self._set_up(peer, setting, database)
                    self._templates[peer.name, setting] = database
            except* (envs.Missing, Ended, OSError, trio.TooSlowError) as group:
                self._tell(f"{peer.name} is left out: {next(flat(group))}")
        self._results[:] = [r for r in self._results if (r.peer.name, r.setting) in self._templates]

    async def _set_up(self, peer: Peer, setting: str, database: Database) -> None:
        stage = self._stage(Result(peer, setting, "setup"), database)
        with trio.fail_after(self._deadline):
            await stage.set_up()
            await database.left()

    def _in_turn(self, number: int) -> list[Result]:
        """Scenario by scenario; who begins is another one in each round."""
        chosen = [result for result in self._results if result.scenario != "idle"]
        turned = []
        for scenario in dict.fromkeys(result.scenario for result in chosen):
            same = [result for result in chosen if result.scenario == scenario]
            first = number * 5 % len(same)
            turned += same[first:] + same[:first]
        return turned

    async def _measure(self, result: Result) -> None:
        """Once more; what goes wrong is noted, and the others go on."""
        template = self._templates[result.peer.name, result.setting]
        failure = f"did not finish in {self._deadline:.0f} s"
        with self._server.database(template.name) as database:
            try:
                with trio.move_on_after(self._deadline):
                    figures = await SCENARIOS[result.scenario](self._stage(result, database))
                    result.rounds.append(figures)
                    failure = ""
            except* Exception as group:  # noqa: BLE001 - whatever a peer did
                failure = "; ".join(map(str, flat(group)))
        if failure:
            result.failures.append(failure)
            self._tell(f"{result.peer.name}, {result.setting}, {result.scenario}: {failure}")

    def _stage(self, result: Result, database: Database) -> Stage:
        return Stage(
            peer=result.peer,
            setting=result.peer.settings[result.setting],
            command=self._commands[result.peer.name],
            order=self._order | {"modules": str(envs.MODULES)},
            database=database,
            sizes=self._sizes,
            log=self._folder / f"{result.peer.name}.log",
        )


def flat(error: BaseException) -> Iterator[BaseException]:
    """The errors within groups of groups."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from flat(each)
    else:
        yield error
