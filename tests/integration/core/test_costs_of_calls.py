"""What one call to the database costs on any machine, with 1 flow and with 400.

A claim, a completion and a start are made again and again, each in a transaction of its own, until
all is planned. Then it is counted what some more of them take:

- locks: what the transaction holds right before its commit, by `pg_locks`; each table and index
  that it touched is one. A server has room for some ten thousand;
- statements: those that the executor began, also within functions, by `pg_stat_statements`;
- plans: how often the planner was at work for these;
- functions: calls of functions in SQL and PL/pgSQL, by `pg_stat_user_functions`;
- buffers: pages that these statements looked at.

`tests/costs.json` has them; see `tests/parts/costs.py`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from math import inf
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from blobstore import Inline
from blobstore.postgres.ids import new_id
from pgflow_events import Flow
from pgflow_events.core.flows import define_flow
from pgflow_events.core.runs import start_flows, start_flows_and_notify
from pgflow_events.core.tasks import (
    Claim,
    ClaimedTask,
    Outcome,
    claim_tasks,
    complete_tasks,
    read_claim,
)
from pgflow_events.core.waking import task_channels
from pgflow_events.postgres.connection import Connection
from pgflow_events.worker.claiming.turns import Turns

from ...parts.costs import costed_server, hold

FLOWS, AT_ONCE = 400, 50  # those made in one transaction: each has locks on tables of its own
# A statement is prepared when it was executed five times, and planned each time for five more.
WARM, COUNTED = 12, 4
WORKER = new_id()
ENOUGH = 1 << 30  # bytes

COUNTING = {
    "pg_stat_statements.track": "all",
    "pg_stat_statements.track_planning": "on",
    "pg_stat_statements.track_utility": "off",
    "track_functions": "all",
}
SPENT = """
select
  coalesce(sum(s.calls), 0)::bigint as statements,
  coalesce(sum(s.plans), 0)::bigint as plans,
  coalesce(sum(s.shared_blks_hit + s.shared_blks_read) filter (where s.toplevel), 0)::bigint
    as buffers
from pg_stat_statements(false) s
where s.dbid = (select oid from pg_database where datname = current_database())
"""
LOCKS = "select count(*) as locks from pg_locks where pid = %s and locktype = 'relation'"
FUNCTIONS = "select coalesce(sum(calls), 0)::bigint as functions from pg_stat_user_functions"

Figures = dict[str, float]
Call = Callable[[], Awaitable[object]]


class Counter:
    """Counts what transactions of one session take."""

    def __init__(self, session: Connection, ear: psycopg.Connection[Any]) -> None:
        self.session = session
        self._ear = ear

    async def count(self, call: Call, times: int = COUNTED) -> Figures:
        """What the calls took, all together."""
        costs = [await self._count_one(call) for _ in range(times)]
        sums = {key: sum(cost[key] for cost in costs) for key in costs[0]}
        return {key: value for key, value in sums.items() if value}

    async def _count_one(self, call: Call) -> Figures:
        functions = await self._functions()
        async with self.session.transaction():
            before = self._look(SPENT)
            await call()
            # The last query is counted when the next one takes its portal; this one is not counted.
            await self.session.execute("set local application_name = 'counted'")
            after = self._look(SPENT)
            locks = self._look(LOCKS, self.session.info.backend_pid)
        spent = {key: after[key] - before[key] for key in after}
        return {**spent, **locks, "functions": await self._functions() - functions}

    async def _functions(self) -> float:
        """Calls so far: a session tells of them when it is made to."""
        await self.session.execute("select pg_stat_force_next_flush()")
        return self._look(FUNCTIONS)["functions"]

    def _look(self, query: str, *parameters: object) -> dict[str, Any]:
        with self._ear.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query.encode(), parameters or None).fetchall()[0]


async def nothing(*_: None) -> None:
    """End at once."""


def steps(slug: str, number: int) -> Flow[Any]:
    """A flow of steps, one after the other."""
    flow = Flow(slug)
    last: Any = ()
    for n in range(number):
        last = (flow.step(*last, slug=f"step_{n}")(nothing),)
    return flow


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """A migrated database on a server that counts."""
    with costed_server() as (dsn, name):
        yield make_conninfo(dsn, dbname=name)


@pytest.fixture(scope="module")
def others(database: str) -> list[str]:
    """Many flows beside those of a test."""
    slugs = [f"other_{n}" for n in range(FLOWS - 1)]
    with psycopg.connect(database) as connection:
        for first in range(0, len(slugs), AT_ONCE):
            connection.execute(
                "select pgflow.create_flow(slug), pgflow.add_step(slug, 'only')"
                " from unnest(%s::text[]) slug",
                [slugs[first : first + AT_ONCE]],
            )
            connection.commit()
    return slugs


@pytest.fixture
async def counter(database: str, others: list[str]) -> AsyncIterator[Counter]:
    counting = " ".join(f"-c {key}={value}" for key, value in COUNTING.items())
    deaf = "-c pg_stat_statements.track=none"
    async with await Connection.connect(database, options=counting) as session:
        with psycopg.connect(database, autocommit=True, options=deaf) as ear:
            yield Counter(session, ear)


class Calls:
    """The calls of a worker and a client for one flow.

    Args:
        others: Flows that the worker has as well. All of them were asked for tasks before.
    """

    def __init__(self, session: Connection, slug: str, others: Sequence[str] = ()) -> None:
        self._session = session
        self._slug = slug
        self._turns = Turns([*others, slug])
        for other in others:
            self._ask(other, inf)
        self.tasks: list[ClaimedTask] = []

    def _ask(self, slug: str, due: float) -> None:
        question = self._turns.ask(slug)
        self._turns.end(question)
        self._turns.answer(question, due, in_vain=None)

    def _asked(self) -> str:
        """The flow that a worker asks, which was notified of tasks."""
        self._turns.notify(self._slug)
        slug = self._turns.first()
        assert slug
        return slug

    async def define(self, steps_number: int) -> None:
        await define_flow(self._session, steps(self._slug, steps_number).definition())
        (source,) = await task_channels(self._session, [self._slug])
        self._functions = {self._slug: source.function}

    async def queue(self, number: int) -> None:
        inputs = [Inline(b"1")] * number
        await start_flows(self._session, self._slug, inputs, [new_id() for _ in inputs])

    async def start(self) -> None:
        await start_flows_and_notify(self._session, self._slug, [Inline(b"1")], [new_id()])

    async def claim(self) -> None:
        function = self._functions[self._asked()]
        self._keep(await claim_tasks(self._session, function, 1, WORKER, ENOUGH))

    async def complete_and_claim(self) -> None:
        await self._complete([self._asked()])

    async def complete(self) -> None:
        await self._complete([])

    async def _complete(self, slugs: list[str]) -> None:
        outcome = Outcome(self.tasks.pop(0), Inline(b"null"))
        answer = await complete_tasks(
            self._session, [outcome], slugs, qty=1, worker_id=WORKER, max_bytes=ENOUGH
        )
        self._keep(await read_claim(answer))

    def _keep(self, claim: Claim) -> None:
        self.tasks += claim.tasks


@pytest.fixture(params=[1, FLOWS])
def flows(request: pytest.FixtureRequest) -> int:
    """How many flows the worker has."""
    return int(request.param)


@pytest.fixture
def scenario(flows: int) -> str:
    return f"{flows} flow{'s' * (flows > 1)}"


@pytest.fixture
def calls(counter: Counter, others: list[str], flows: int) -> Calls:
    return Calls(counter.session, f"flow_{new_id().hex}", others[: flows - 1])


async def repeated(counter: Counter, call: Call) -> Figures:
    """What calls take when all is planned."""
    await counter.count(call, WARM)
    return await counter.count(call)


async def test_a_claim_of_a_task(counter, calls, scenario):
    await calls.define(1)
    await calls.queue(WARM + COUNTED + 1)  # the last claim leaves some too
    spent = await repeated(counter, calls.claim)
    assert len(calls.tasks) == WARM + COUNTED
    hold(f"a claim of a task, {scenario}", spent, COUNTED)


async def test_a_claim_that_finds_nothing(counter, calls, scenario):
    await calls.define(1)
    spent = await repeated(counter, calls.claim)
    hold(f"a claim that finds nothing, {scenario}", spent, COUNTED)


async def test_a_completion_that_ends_a_run_and_claims_the_next_task(counter, calls, scenario):
    await calls.define(1)
    await calls.queue(2 + WARM + COUNTED)
    await calls.claim()
    spent = await repeated(counter, calls.complete_and_claim)
    assert len(calls.tasks) == 1
    hold(f"a completion that ends a run, {scenario}", spent, COUNTED)


async def test_a_completion_that_hands_over_to_the_next_step(counter, calls, scenario):
    await calls.define(2 + WARM + COUNTED)
    await calls.queue(1)
    await calls.claim()
    spent = await repeated(counter, calls.complete)
    assert len(calls.tasks) == 1
    hold(f"a completion that hands over, {scenario}", spent, COUNTED)


@pytest.mark.parametrize("flows", [1], indirect=True)
async def test_a_start_of_a_run_of_one_step(counter, calls):
    await calls.define(1)
    spent = await repeated(counter, calls.start)
    hold("a start of a run of one step", spent, COUNTED)
