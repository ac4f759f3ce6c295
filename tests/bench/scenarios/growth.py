"""What a task costs when many others have ended before it, and when nothing can be vacuumed.

Finished tasks are made by SQL: rows as workers leave them in `runs`, `step_states`, `step_tasks`
and the archive of the queue.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any
from uuid import uuid4

import psycopg

from blobstore import Inline
from pgflow_events import Settings
from pgflow_events.bench.measured import Measured, scaled
from pgflow_events.bench.scenarios.drain import drained, waiting
from pgflow_events.core.tasks import Outcome, claim_tasks, complete_tasks, read_claim
from pgflow_events.core.waking import task_channels
from pgflow_events.postgres.connection import Connection

FLOW = "bench_growth"
TASKS = int(os.environ.get("BENCH_GROWTH_TASKS", "100000"))
CALLED, DRAINED = 2_000, 4_000
BATCH = 50
AT_ONCE = 50_000  # rows that one statement makes
NO_LIMIT = 2**40

# Of the 30 days before, with ids in order of time.
FILL = """
with run as materialized (
  select
    encode(
      overlay(
        uuid_send(gen_random_uuid()) placing
        substring(int8send((extract(epoch from t.at) * 1000)::bigint) from 3) from 1 for 6
      ), 'hex'
    )::uuid as id, t.at, t.n, nextval('pgmq.q_bench_growth_msg_id_seq') as message_id
  from (
    select n, clock_timestamp() - interval '30 days' + n * interval '30 days' / %(all)s as at
    from generate_series(%(first)s::int, %(last)s::int) n
  ) t
),
runs as (
  insert into pgflow.runs (run_id, flow_slug, status, input, output, started_at, completed_at)
  select id, 'bench_growth', 'completed', to_jsonb(n), jsonb_build_object('only', n), at, at
  from run
),
states as (
  insert into pgflow.step_states (
    flow_slug, run_id, step_slug, status, remaining_tasks, created_at, started_at, completed_at
  )
  select 'bench_growth', id, 'only', 'completed', 0, at, at, at from run
),
messages as (
  insert into pgmq.a_bench_growth (msg_id, read_ct, enqueued_at, archived_at, vt, message)
  select
    message_id, 1, at, at, at,
    jsonb_build_object(
      'flow_slug', 'bench_growth', 'run_id', id, 'step_slug', 'only', 'task_index', 0
    )
  from run
)
insert into pgflow.step_tasks (
  flow_slug, run_id, step_slug, message_id, status, attempts_count, output, worker_id,
  queued_at, started_at, completed_at
)
select
  'bench_growth', id, 'only', message_id, 'completed', 1, to_jsonb(n), gen_random_uuid(), at, at, at
from run
"""
VACUUM = """
vacuum (analyze)
  pgflow.runs, pgflow.step_states, pgflow.step_tasks, pgmq.q_bench_growth, pgmq.a_bench_growth
"""
BUFFERS = """
select coalesce(sum(shared_blks_hit + shared_blks_read), 0)::float8 from public.pg_stat_statements
where query like any(array['%pgflow_queues.claim_%', '%pgflow.complete_tasks(%'])
and dbid = (select oid from pg_database where datname = current_database())
"""


async def growth(dsn: str) -> list[Measured]:
    """A task's cost with 1,000 and 100,000 (or BENCH_GROWTH_TASKS) finished ones behind.

    Each also with a transaction held open beside, whose snapshot keeps vacuum from removing
    anything. Compared is with a database that has none behind.
    """
    async with waiting(dsn, FLOW, 1):  # that defines the flow
        pass
    fresh, measured, there = {}, [], 0
    for behind in sorted({0, 1_000, 100_000, TASKS}):
        if behind > TASKS:
            break
        fill(dsn, there, behind)
        there = behind
        for held in (False, True):
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute(VACUUM)
                connection.execute("checkpoint")
            with open_transaction(dsn, held=held):
                ours = await costs(dsn)
            fresh = fresh or ours
            setting = f"{behind:,} behind{', a transaction open' * held}"
            measured.append(Measured(setting=setting, unit="ms a task", ours=ours, floor=fresh))
    return measured


def fill(dsn: str, there: int, wanted: int) -> None:
    """Make finished tasks until there are so many."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for first in range(there, wanted, AT_ONCE):
            last = min(first + AT_ONCE, wanted) - 1
            connection.execute(FILL, {"all": wanted, "first": first, "last": last})


@contextmanager
def open_transaction(dsn: str, *, held: bool) -> Iterator[None]:
    """Hold a snapshot for the block, or not."""
    if not held:
        yield
        return
    with psycopg.connect(dsn) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("select from pgflow.runs limit 1")
        yield


async def costs(dsn: str) -> dict[str, float]:
    """Of a task: time and buffers of the calls that claim and complete it; and a worker's rate.

    The worker is first: what it leaves behind is there when the calls are measured.
    """
    runs = scaled(DRAINED)
    rate = runs / await drained(dsn, FLOW, runs, 1, Settings().slots)
    count = scaled(CALLED)
    async with waiting(dsn, FLOW, count), await Connection.connect(dsn) as connection:
        before, began = await buffers(connection), perf_counter()
        await claim_and_complete(connection)
        seconds, after = perf_counter() - began, await buffers(connection)
    return {
        "mean": seconds / count * 1e3,
        "buffers a task": (after - before) / count,
        "runs/s": rate,
    }


async def claim_and_complete(
    connection: Connection, slug: str = FLOW, batch: int = BATCH, notify: Any = None
) -> None:
    """Do all tasks of a flow as a worker with that many slots does."""
    worker_id = uuid4()
    (source,) = await task_channels(connection, [slug])
    claim = await claim_tasks(connection, source.function, batch, worker_id, NO_LIMIT)
    while claim.tasks:
        outcomes = [Outcome(task, Inline(b"0")) for task in claim.tasks]
        answer = await complete_tasks(
            connection, outcomes, [slug], qty=batch, worker_id=worker_id, max_bytes=NO_LIMIT
        )
        claim = await read_claim(answer)
        if notify:
            await notify(connection, claim.owed_tasks, claim.owed_runs)


async def buffers(connection: Connection) -> float:
    """Pages that the calls looked at so far."""
    cursor = await connection.execute(BUFFERS)
    ((count,),) = await cursor.fetchall()
    return float(count)
