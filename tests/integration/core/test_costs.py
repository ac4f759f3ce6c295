"""What tasks cost on any machine: statements, round trips, commits, notifications, WAL, buffers.

All of it is compared with `tests/costs.json`; `tests/parts/costs.py` says how to change the file.

Counts have to be equal: handlers that wait for nothing end together, so that their outcomes gather
alike on fast and slow machines. Bytes and buffers vary a little with where rows happen to lie; and
with PostgreSQL, so that it is always the one from the wheel. What it does now and then is off:
autovacuum, and to write whole pages to the WAL after a checkpoint.
"""

import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
import trio
from psycopg.rows import dict_row
from trio.testing import MockClock

from blobstore.postgres.ids import new_id
from pgflow_events import Client, Flow, Settings
from pgflow_events.telemetry import TaskEvent

from ...conftest import new_database
from ...parts.costs import costed_server, hold
from ...parts.servers.wire import Wire

HOUR = Settings(check_interval=3600)
SPENT = """
with chunks as (select content from pgflow.blob_chunks)
select
  pg_snapshot_xmax(pg_current_snapshot())::text::bigint as "commits that wrote, the start's too",
  (pg_current_wal_insert_lsn() - '0/0')::bigint as "WAL bytes",
  (
    select coalesce(sum(shared_blks_hit + shared_blks_read), 0)::bigint from pg_stat_statements
    where dbid = (select oid from pg_database where datname = current_database())
    and toplevel and query ~ 'pgflow.complete_tasks|pgflow_queues.claim_'
  ) as "buffers of claims and completions",
  (
    select coalesce(sum(pg_column_size(content)), 0)::bigint
    from (select content from pgflow.output_blobs union all table chunks)
  ) as "bytes stored"
"""

Figures = dict[str, float]
Do = Callable[[], Awaitable[object]]


class Meter:
    """Measures what is done, by the wire, by the server's own counts and by ear."""

    def __init__(self, wire: Wire, ear: psycopg.Connection[Any]) -> None:
        self._wire = wire
        self._ear = ear
        channels = "select pgflow.channel(topic, 'flow') from unnest(array['tasks', 'runs']) topic"
        for (channel,) in [*ear.execute(channels), ("the_end",)]:
            ear.execute(f"listen {channel}")

    async def measure(self, do: Do) -> Figures:
        """What it cost to do this, and all that came of it."""
        await self._bring_to_rest()
        self._heard()
        self._wire.counts.clear()
        before = self._spent()
        await do()
        await self._wire.settle()
        spent = {key: value - before[key] for key, value in self._spent().items()}
        figures = {**self._wire.counts, **self._heard(), **spent}
        return {key: value for key, value in figures.items() if value}

    async def _bring_to_rest(self) -> None:
        """Have the worker find nothing, so that it does not look again half a second later."""
        await self._wire.settle()
        self._wire.counts.clear()
        self._ear.execute("select pg_notify(pgflow.channel('tasks', 'flow'), '')")
        with trio.fail_after(10):
            while not self._wire.counts["calls of claim_q_flow"]:  # noqa: ASYNC110 - no event
                await trio.sleep(0.001)
        await self._wire.settle()

    def _spent(self) -> dict[str, int]:
        with self._ear.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(SPENT).fetchall()[0]

    def _heard(self) -> Counter[str]:
        """What was notified; it is heard in the order of the commits."""
        heard: Counter[str] = Counter()
        self._ear.execute("notify the_end")
        for notify in self._ear.notifies(timeout=10):
            if notify.channel == "the_end":
                return heard
            heard[f"notifications of {notify.channel.split('_')[1]}"] += 1
        raise AssertionError("the last notification did not arrive")


@pytest.fixture(scope="module")
def migrated() -> Iterator[tuple[str, str]]:
    """A server of our own, and the name of a migrated database there, to be copied."""
    with costed_server() as found:
        yield found


@pytest.fixture
def database(migrated: tuple[str, str]) -> Iterator[str]:
    """The dsn of a migrated database of the test's own."""
    with new_database(*migrated) as dsn:
        yield dsn


@pytest.fixture
async def wire(database: str, nursery: trio.Nursery) -> Wire:
    wire = Wire(database)
    await nursery.start(wire.run)
    return wire


@pytest.fixture
def meter(database: str, wire: Wire) -> Iterator[Meter]:
    with psycopg.connect(database, autocommit=True) as ear:
        yield Meter(wire, ear)


@pytest.fixture
def clock() -> MockClock:
    """Goes as fast as any other, until it is told to jump."""
    return MockClock(rate=1)


@pytest.fixture(autouse=True)
def nothing_is_claimed_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """How much is claimed ahead depends on the time that handlers take, and so would the costs."""
    monkeypatch.setattr("pgflow_events.worker.claiming.slots.MOST", 0)


def one_step() -> Flow[Any]:
    flow = Flow("flow")
    flow.step(slug="only")(nothing)
    return flow


def four_steps() -> Flow[Any]:
    """Two steps side by side, between a first and a last one."""
    flow = Flow("flow")
    first = flow.step(slug="first")(nothing)
    sides = [flow.step(first, slug=slug)(nothing) for slug in ("left", "right")]
    flow.step(*sides, slug="last")(nothing)
    return flow


async def nothing(*_: None) -> None:
    """End at once."""


def page_passing() -> Flow[Any]:
    """A page from one step to the next."""
    flow = Flow("flow", input=int)

    @flow.step(flow.input)
    async def page(number: int) -> str:
        return html(number)

    @flow.step(page)
    async def length(page: str) -> int:
        return len(page)

    return flow


def html(number: int) -> str:
    """About 100 kB, like those of no other number."""
    chosen = random.Random(number)
    words = [chosen.randbytes(3).hex() for _ in range(500)]
    return "".join(f"<p>{' '.join(chosen.choices(words, k=10))}</p>\n" for _ in range(1300))


class Starter:
    """Starts runs of a flow, and returns when the worker has nothing left to do."""

    def __init__(self, client: Client, wire: Wire, flow: Flow[Any]) -> None:
        self._client = client
        self._wire = wire
        self._flow = flow
        self._ended, self._ends = trio.open_memory_channel[TaskEvent](math.inf)

    def hook(self, event: TaskEvent) -> None:
        self._ended.send_nowait(event)

    async def one_by_one(self, inputs: Sequence[Any]) -> None:
        """Wait for the end of each run, as clients do."""
        for value in inputs:
            run = await self._client.start(self._flow, value)
            await run.wait()
            await self._wire.settle()

    async def all_at_once(self, inputs: Sequence[Any]) -> None:
        """Wait for the tasks: a client that looks at runs keeps what it sees from being removed."""
        # Ids of one millisecond come in any order, and an index grows with the disorder.
        await self._client.start_many(self._flow, inputs, run_ids=sorted(new_id() for _ in inputs))
        for _ in range(len(inputs) * len(self._flow.steps)):
            await self._ends.receive()
        await self._wire.settle()


@dataclass(frozen=True)
class Scenario:
    """What is started twice: what the first time opens, prepares and plans is not measured.

    Attributes:
        counted: Of what there are so many: what they cost is that of one of them.
    """

    flow: Flow[Any]
    start: Callable[[Starter, Sequence[Any]], Awaitable[None]]
    inputs: Sequence[Any]
    counted: int


SCENARIOS = {
    "a task of a lone run of one step": Scenario(one_step(), Starter.one_by_one, [None] * 10, 10),
    "a task of a lone run of four steps": Scenario(
        four_steps(), Starter.one_by_one, [None] * 10, 40
    ),
    "a task of 1,000 runs of one step": Scenario(
        one_step(), Starter.all_at_once, [None] * 1000, 1000
    ),
    "a task of 250 runs of four steps": Scenario(
        four_steps(), Starter.all_at_once, [None] * 250, 1000
    ),
    "a run that passes a page of 100 kB": Scenario(
        page_passing(), Starter.one_by_one, range(10), 10
    ),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_it_costs_what_is_written_down(client, work, wire, meter, scenario):
    it = SCENARIOS[scenario]
    starter = Starter(client, wire, it.flow)
    await work(it.flow, dsn=wire.dsn, settings=HOUR, hooks=[starter.hook])
    await it.start(starter, it.inputs)
    spent = await meter.measure(lambda: it.start(starter, it.inputs))
    hold(scenario, spent, it.counted)


async def test_an_idle_worker_says_nothing_but_for_checks_that_cost_what_is_written_down(
    work, wire, meter, clock
):
    # One connection prepares and plans each statement once, and that within the first checks.
    await work(one_step(), dsn=wire.dsn, settings=Settings(check_interval=60, connections=1))
    await pass_time(clock, wire, [60] * 6)
    assert await meter.measure(lambda: pass_time(clock, wire, [50])) == {}
    spent = await meter.measure(lambda: pass_time(clock, wire, [60] * 10))
    del spent["WAL bytes"]  # hardly any, but for what happens to be tidied up on the way
    hold("a check of an idle worker", spent, 10)


async def pass_time(clock: MockClock, wire: Wire, intervals: Sequence[float]) -> None:
    """Let so many seconds pass, each time when what was due is done."""
    for seconds in intervals:
        await wire.settle()
        clock.jump(seconds)
