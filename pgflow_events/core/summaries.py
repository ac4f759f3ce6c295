"""Queries that show people how runs, queues and the server are doing. They change nothing."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row
from psycopg.sql import SQL, Identifier, Literal

from pgflow_events.core.times import sane
from pgflow_events.postgres.connection import Connection

STATES = ("queued", "delayed", "running", "retrying")  # of a run that is started


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run as it is shown to people. Times are by the server's clock."""

    run_id: UUID
    flow_slug: str
    status: str
    """`started`, `completed`, `failed` or `cancelled`, as it is stored."""
    state: str
    """Of a run that has not ended: `running` if a worker has one of its tasks, `delayed` if all of
    its queued tasks begin later, `retrying` if those that do not wait for another attempt,
    otherwise `queued`. Of an ended run: its status."""
    starts_at: datetime | None
    """If the run is delayed: when the first of its tasks begins."""
    started_at: datetime
    ended_at: datetime | None
    age: float
    """Seconds since its start."""
    duration: float
    """Seconds from its start to its end, or to now."""
    steps_done: int
    """Steps that completed or were skipped."""
    steps_total: int
    cancel_reason: str | None = None
    """What the caller said that cancelled the run."""


RUN_STATE = """
case when runs.status <> 'started' then runs.status else (
  select case
    when bool_or(t.started_at is not null) then 'running'
    when bool_and(t.queued_at > clock_timestamp()) then 'delayed'
    when bool_and(t.attempts_count > 0 or t.queued_at > clock_timestamp()) then 'retrying'
    else 'queued'
  end
  from pgflow.step_tasks t where t.run_id = runs.run_id and t.status in ('queued', 'started')
) end
"""

RUN_SUMMARIES = f"""
select
  runs.run_id, flow_slug, status, state, started_at, ended_at,
  case when state = 'delayed' then (
    select {sane("min(t.queued_at)")} from pgflow.step_tasks t
    where t.run_id = runs.run_id and t.status = 'queued'
  ) end as starts_at,
  extract(epoch from clock_timestamp() - started_at)::float8 as age,
  extract(epoch from coalesce(ended_at, clock_timestamp()) - started_at)::float8 as duration,
  steps_done, steps_total, cancel_reason
from (
  select
    run_id, flow_slug, status, cancel_reason, {sane("started_at")} as started_at,
    {sane("coalesce(completed_at, failed_at, cancelled_at)")} as ended_at
  from pgflow.runs
  where
    (%(run_id)s::uuid is null or run_id = %(run_id)s)
    and (%(flow_slug)s::text is null or flow_slug = %(flow_slug)s)
    and (%(status)s::text is null or status = %(status)s)
    and (%(state)s::text is null or {RUN_STATE} = %(state)s)
  -- Not by the id: a caller may have chosen one that encodes no time.
  order by runs.started_at desc, run_id desc limit %(limit)s
) runs
cross join lateral (select {RUN_STATE} as state) state
cross join lateral (
  select
    count(*) filter (where status in ('completed', 'skipped')) as steps_done,
    count(*) as steps_total
  from pgflow.step_states where run_id = runs.run_id
) steps
order by started_at desc, runs.run_id desc
"""  # noqa: S608 - put together from constants


async def summarize_runs(
    connection: Connection,
    *,
    run_id: UUID | None = None,
    flow_slug: str | None = None,
    status: str | None = None,
    limit: int = 20,
) -> list[RunSummary]:
    """The newest runs: all, or those with this id, flow, and status or state."""
    state = status if status in STATES else None
    chosen = {
        "run_id": run_id,
        "flow_slug": flow_slug,
        "status": "started" if state else status,
        "state": state,
        "limit": limit,
    }
    cursor = connection.cursor(row_factory=class_row(RunSummary))
    await cursor.execute(RUN_SUMMARIES, chosen)
    return await cursor.fetchall()


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """How full the queue of a flow is."""

    flow_slug: str
    messages: int
    """All messages, also those of running tasks and those that become visible later."""
    visible: int
    """Messages that a worker could claim now."""
    waited: float | None
    """Seconds since the first of these became visible. None if no message is visible."""


QUEUE_DEPTH = f"""
select
  {{slug}}, count(*), count(*) filter (where vt <= clock_timestamp()),
  extract(
    epoch from clock_timestamp() - min({sane("vt")}) filter (where vt <= clock_timestamp())
  )::float8
from pgmq.{{queue}} where {{condition}}
"""  # noqa: S608 - put together from constants


async def queue_depths(connection: Connection) -> list[QueueDepth]:
    """The depths of all flows' queues, by slug."""
    cursor = await connection.execute(
        """
        select f.flow_slug, q.queue, pgflow.task_messages() from pgflow.flows f
        cross join lateral (select pgmq.format_table_name(f.flow_slug, 'q') as queue) q
        where to_regclass(format('pgmq.%I', q.queue)) is not null -- or it is lost
        order by 1
        """
    )
    # A table's name is no parameter.
    depths = [
        SQL(QUEUE_DEPTH).format(
            slug=Literal(slug), queue=Identifier(queue), condition=SQL(condition)
        )
        for slug, queue, condition in await cursor.fetchall()
    ]
    if not depths:
        return []
    await cursor.execute(SQL(" union all ").join(depths))
    return [QueueDepth(*row) for row in await cursor.fetchall()]


async def worked_flows(connection: Connection) -> set[str]:
    """The flows that have a worker which is known to be alive, because it holds its seat."""
    cursor = await connection.execute(
        "select distinct unnest(flow_slugs) from pgflow.live_workers where alive"
    )
    return {slug for (slug,) in await cursor.fetchall()}


async def notification_queue_usage(connection: Connection) -> float:
    """The share of the server's notification queue that is in use, from 0 to 1."""
    cursor = await connection.execute("select pg_notification_queue_usage()")
    ((usage,),) = await cursor.fetchall()
    return float(usage)


async def is_standby(connection: Connection) -> bool:
    """Whether the server follows another one."""
    cursor = await connection.execute("select pg_is_in_recovery()")
    return await cursor.fetchone() == (True,)


async def is_read_only(connection: Connection) -> bool:
    """Whether the server takes no writes from us: a standby, or one that was set to read-only."""
    cursor = await connection.execute("select current_setting('transaction_read_only') = 'on'")
    return await cursor.fetchone() == (True,)


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """An open transaction: vacuum removes no row version that ended after its start."""

    pid: int
    application_name: str
    state: str
    """`active`, `idle in transaction`."""
    age: float
    """Seconds since its start."""


async def oldest_transaction(connection: Connection) -> OpenTransaction | None:
    """The oldest transaction in this database that holds back vacuum, if this role may see it."""
    cursor = connection.cursor(row_factory=class_row(OpenTransaction))
    await cursor.execute(
        """
        select
          pid, coalesce(application_name, '') as application_name, state,
          extract(epoch from clock_timestamp() - xact_start)::float8 as age
        from pg_stat_activity
        where
          datname = current_database() and pid <> pg_backend_pid()
          and backend_type = 'client backend'
          and (backend_xmin is not null or backend_xid is not null)
        order by xact_start limit 1
        """
    )
    return await cursor.fetchone()


async def sees_all_sessions(connection: Connection) -> bool:
    """Whether this role may see what the sessions of other roles do."""
    cursor = await connection.execute("select pg_has_role('pg_read_all_stats', 'usage')")
    ((sees,),) = await cursor.fetchall()
    return bool(sees)


async def failed_runs(connection: Connection) -> dict[str, int]:
    """How many runs failed in the last 24 hours, by flow."""
    cursor = await connection.execute(
        """
        select flow_slug, count(*) from pgflow.runs
        where failed_at > clock_timestamp() - interval '24 hours' group by 1 order by 2 desc, 1
        """
    )
    return dict(await cursor.fetchall())
