"""Queries that show people the steps of a run, and its input. They change nothing."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict
from uuid import UUID

from psycopg.rows import class_row
from psycopg.sql import SQL

from pgflow_events.core.times import sane
from pgflow_events.postgres.connection import Connection


class BlobSummary(TypedDict):
    """A blob without its content."""

    id: str
    kind: str
    """`text`, `bytes`, `json` or `list`."""
    codec: str
    raw_size: int
    """Bytes before compression."""
    stored_size: int
    """Bytes as stored."""
    forgotten: bool
    """Whether its bytes were deleted because its `keep_output` was over."""


class TaskCounts(TypedDict):
    """How many tasks of a map are in which state. The sum of all but `total` is `total`."""

    total: int | None
    """The number of elements. None until the list is known."""
    done: int
    running: int
    retrying: int
    """Tasks that wait for another attempt."""
    waiting: int
    """Tasks that no worker has had, with those that are not queued yet."""
    failed: int
    lost: int
    """Tasks that failed and that the map tolerates."""
    cancelled: int
    skipped: int


@dataclass(frozen=True, slots=True)
class StepSummary:
    """A step of a run as it is shown to people, with its task or the numbers of its tasks."""

    step_slug: str
    dependencies: list[str]
    status: str
    """`waiting` for its dependencies, `queued`, `delayed` (it begins later), `running`, `retrying`
    (queued again), `completed`, `failed`, `cancelled`, or `skipped`."""
    skip_reason: str | None
    """Why it was skipped: `condition_unmet`, `dependency_skipped`, `handler_failed`, or
    `run_ended`: the run failed before the step started."""
    tasks: TaskCounts | None
    """Of a map, the numbers of its tasks. Its other facts are those of all its tasks."""
    attempts: int
    """Of a map, those of the task that has most."""
    max_attempts: int
    error: str | None
    """The error of the last attempt that failed. Of a map, one of those that ended a task."""
    error_index: int | None
    """Of a map, the index of the task that has this error."""
    output: str | None
    """The JSON of the output. None if there is no output yet, it is a blob, or it was not asked
    for."""
    worker_id: UUID | None
    queued_at: datetime | None
    starts_at: datetime | None
    """If the step is delayed: when it begins."""
    started_at: datetime | None
    ended_at: datetime | None
    duration: float | None
    """Seconds of the last attempt, from its claim to its end or to now. Of a map, from its start to
    its end or to now."""
    blob: BlobSummary | None
    """The output, if it is a blob."""


# Of a map, when the first of its tasks was queued, and when the last one had ended.
STARTED = "case when s.step_type = 'map' then ss.started_at else t.started_at end"
ENDED = """
case when s.step_type = 'map' then coalesce(ss.completed_at, ss.failed_at, ss.skipped_at)
else coalesce(t.completed_at, t.failed_at) end
"""

# One row a step: a map may have a hundred thousand tasks, which are only counted.
STEP_SUMMARIES = f"""
select
  s.step_slug,
  array(
    select d.dep_slug
    from pgflow.deps d
    join pgflow.steps p on p.flow_slug = d.flow_slug and p.step_slug = d.dep_slug
    where d.flow_slug = s.flow_slug and d.step_slug = s.step_slug
    order by p.step_index
  ) as dependencies,
  state.status,
  case when ss.status = 'created' and state.status = 'skipped' then 'run_ended'
  else ss.skip_reason end as skip_reason,
  case when s.step_type = 'map' then json_build_object(
    'total', ss.initial_tasks, 'done', c.done, 'running', c.running, 'retrying', c.retrying,
    'waiting', c.active - c.running - c.retrying + case when goes_on then unmade else 0 end,
    'failed', c.failed - coalesce(ss.lost_tasks, 0), 'lost', coalesce(ss.lost_tasks, 0),
    'cancelled', c.cancelled + case when goes_on or state.status = 'skipped' then 0 else unmade end,
    'skipped', c.skipped + case when state.status = 'skipped' then unmade else 0 end
  ) end as tasks,
  coalesce(c.attempts, 0) as attempts,
  coalesce(s.opt_max_attempts, f.opt_max_attempts) as max_attempts,
  coalesce(w.error_message, ss.error_message) as error,
  case when s.step_type = 'map' then w.task_index end as error_index,
  {{output}} as output, t.worker_id, e.queued_at,
  case when state.status = 'delayed' then e.queued_at end as starts_at,
  e.started_at, e.ended_at,
  extract(epoch from coalesce(
    e.ended_at, case when goes_on then clock_timestamp() end
  ) - e.started_at)::float8 as duration,
  case when b.id is not null then jsonb_build_object(
    'id', b.id, 'kind', b.kind, 'codec', b.codec,
    'raw_size', b.raw_size, 'stored_size', b.stored_size,
    'forgotten', b.forgotten_at is not null
  ) end as blob
from pgflow.runs r
join pgflow.step_states ss on ss.run_id = r.run_id
join pgflow.steps s on s.flow_slug = ss.flow_slug and s.step_slug = ss.step_slug
join pgflow.flows f on f.flow_slug = ss.flow_slug
cross join lateral (
  select
    count(*) as made,
    count(*) filter (where t.status = 'completed') as done,
    count(*) filter (where t.status in ('queued', 'started')) as active,
    count(*) filter (where t.status in ('queued', 'started') and t.started_at is not null)
    as running,
    count(*) filter (where t.status = 'queued' and t.started_at is null and t.attempts_count > 0)
    as retrying,
    count(*) filter (where t.status = 'queued' and t.queued_at > clock_timestamp()) as delayed,
    count(*) filter (where t.status = 'failed') as failed,
    count(*) filter (where t.status = 'cancelled') as cancelled,
    count(*) filter (where t.status = 'skipped') as skipped,
    count(t.error_message) as errors,
    max(t.attempts_count) as attempts, min(t.queued_at) as queued_at
  from pgflow.step_tasks t where t.run_id = ss.run_id and t.step_slug = ss.step_slug
) c
cross join lateral (
  select
    case
      when ss.status = 'created' and r.status = 'started' then 'waiting'
      when ss.status = 'created' then 'skipped'
      when ss.status <> 'started' then ss.status
      when r.status <> 'started' then 'cancelled'
      when c.running > 0 then 'running'
      when c.active > 0 and c.delayed = c.active then 'delayed'
      when c.active > 0 and c.retrying + c.delayed = c.active then 'retrying'
      else 'queued'
    end as status,
    r.status = 'started' and ss.status in ('created', 'started') as goes_on,
    greatest(coalesce(ss.initial_tasks, 0) - c.made, 0) as unmade
) state
left join pgflow.step_tasks t
  on s.step_type = 'single' and t.run_id = ss.run_id and t.step_slug = ss.step_slug
  and t.task_index = 0
left join pgflow.output_blobs b on b.id = coalesce(t.output_blob_id, ss.output_blob_id)
left join lateral (
  select w.task_index, w.error_message from pgflow.step_tasks w
  where w.run_id = ss.run_id and w.step_slug = ss.step_slug and w.error_message is not null
  order by w.status = 'failed' desc, coalesce(w.failed_at, w.queued_at) desc limit 1
) w on c.errors > 0
cross join lateral (
  select
    {sane("c.queued_at")} as queued_at,
    {sane(STARTED)} as started_at, {sane(ENDED)} as ended_at
) e
where r.run_id = %s
order by s.step_index
"""  # noqa: S608 - put together from constants


async def summarize_steps(
    connection: Connection, run_id: UUID, *, values: bool = True
) -> list[StepSummary]:
    """The steps of a run, with or without their outputs. Each one follows its dependencies."""
    cursor = connection.cursor(row_factory=class_row(StepSummary))
    output = SQL("coalesce(t.output, ss.output)::text") if values else SQL("null")
    await cursor.execute(SQL(STEP_SUMMARIES).format(output=output), [run_id])
    return await cursor.fetchall()


async def find_input(
    connection: Connection, run_id: UUID, *, values: bool = True
) -> tuple[str | None, BlobSummary | None]:
    """The input of a run, as its JSON or as a summary of its blob. The JSON only with `values`."""
    statement = SQL(
        """
        select
          {input},
          case when b.id is not null then jsonb_build_object(
            'id', b.id, 'kind', b.kind, 'codec', b.codec,
            'raw_size', b.raw_size, 'stored_size', b.stored_size,
            'forgotten', b.forgotten_at is not null
          ) end
        from pgflow.runs r left join pgflow.output_blobs b on b.id = r.input_blob_id
        where r.run_id = %s
        """
    )
    given = SQL("r.input::text") if values else SQL("null")
    cursor = await connection.execute(statement.format(input=given), [run_id])
    ((value, blob),) = await cursor.fetchall()
    return value, blob
