"""Finds out what the queues of flows have lost, and sends lost messages again."""

from dataclasses import dataclass

from psycopg.rows import class_row, scalar_row
from psycopg.sql import SQL, Identifier, Literal

from pgflow_events.postgres.connection import Connection

BATCH = 10_000  # tasks that are locked and written at once

# A run that goes on has a task to be done, of a step whose state exists. A stuck run has none.
STUCK = """
r.status = 'started' and not exists (
  select from pgflow.step_tasks t join pgflow.step_states s using (run_id, step_slug)
  where t.run_id = r.run_id and t.status in ('queued', 'started')
)
"""
NUMBER_AGAIN = (
    "alter table {0} alter column msg_id add generated always as identity;"
    " select setval(pg_get_serial_sequence('{0}', 'msg_id'), max(msg_id))"
    " from (select msg_id from {0} union all select msg_id from {1}) m"
)
DELETE_STUCK = "delete from pgflow.runs r where r.flow_slug = {slug} and {stuck}"

# Finding the runs that go on reads all runs, so it is done once for all flows.
ACTIVE = """
select r.flow_slug, count(*) filter (where {stuck}) as stuck
from pgflow.runs r where r.status = 'started' group by 1
"""

QUEUES = """
with active as materialized ({active})
select
  f.flow_slug, q.lost, pgflow.foreign_queue(f.flow_slug) as others,
  array(
    select n.name
    from unnest(array['start_', 'advance_', 'archive_', 'look_', 'claim_']) as w (what)
    cross join lateral (select w.what || q.queue as name) n
    where not exists (
      select from pg_proc p
      where p.pronamespace = to_regnamespace('pgflow_queues') and p.proname = n.name
    )
  ) as functions,
  case
    when cardinality(q.lost) > 0 then false
    else coalesce(pgflow.reuses_ids(f.flow_slug), false) -- null: this role may not know
  end as reuses_ids,
  exists (
    select from pg_attribute a
    where
      a.attrelid = to_regclass(format('pgmq.%I', q.queue)) and a.attname = 'msg_id'
      and a.attidentity = '' and not a.atthasdef
  ) as is_unnumbered,
  case
    when a.flow_slug is null then 0 else (select count(*) from pgflow.lost_tasks(f.flow_slug))
  end as lost_tasks,
  coalesce(a.stuck, 0) as stuck_runs,
  -- An active run has steps; a step says how many it depends on.
  a.flow_slug is not null
  and not exists (select from pgflow.steps s where s.flow_slug = f.flow_slug)
  or exists (
    select from pgflow.steps s
    where
      s.flow_slug = f.flow_slug and s.deps_count <> (
        select count(*) from pgflow.deps d
        where d.flow_slug = s.flow_slug and d.step_slug = s.step_slug
      )
  ) as lost_steps
from pgflow.flows f
left join active a using (flow_slug)
cross join lateral (
  select
    pgmq.format_table_name(f.flow_slug, 'q') as queue, pgflow.lost_queue(f.flow_slug) as lost
) q
order by 1
"""

STRANGE = "select {slug}, count(*) from pgmq.{queue} where ({condition}) is not true"


@dataclass(frozen=True, slots=True)
class Queue:
    """What is wrong with the queue of a flow."""

    flow_slug: str
    lost: list[str]
    """Missing tables."""
    others: list[str]
    """Tables that another application created."""
    functions: list[str]
    """Missing functions of `pgflow_queues`."""
    reuses_ids: bool
    """Whether new messages get the ids of archived ones."""
    is_unnumbered: bool
    """Whether new messages get no ids, so that none can be sent."""
    lost_tasks: int
    """Waiting or running tasks without a message."""
    stuck_runs: int
    """Runs that go on, but have no task left that could end them."""
    lost_steps: bool
    """Whether steps or dependencies are missing."""

    @property
    def number_again(self) -> str:
        """The statements that give ids to new messages again, for people."""
        queue = self.flow_slug.lower()  # as pgmq does it
        return NUMBER_AGAIN.format(f"pgmq.q_{queue}", f"pgmq.a_{queue}")

    @property
    def delete_stuck(self) -> str:
        """The statement that deletes the stuck runs, for people."""
        slug = Literal(self.flow_slug)
        return " ".join(SQL(DELETE_STUCK).format(slug=slug, stuck=SQL(STUCK)).as_string().split())


async def find_queues(connection: Connection) -> list[Queue]:
    """The queues of all flows, by slug."""
    cursor = connection.cursor(row_factory=class_row(Queue))
    active = SQL(ACTIVE).format(stuck=SQL(STUCK))
    await cursor.execute(SQL(QUEUES).format(active=active))
    return await cursor.fetchall()


async def count_strange_messages(connection: Connection) -> dict[str, int]:
    """How many messages in each queue no flow has sent; only of flows with such messages."""
    cursor = await connection.execute(
        """
        select f.flow_slug, pgmq.format_table_name(f.flow_slug, 'q'), pgflow.task_messages()
        from pgflow.flows f where not 'q' = any(array(
          select left(l, 1) from unnest(pgflow.lost_queue(f.flow_slug)) l
        ))
        """
    )
    counts = [
        SQL(STRANGE).format(slug=Literal(slug), queue=Identifier(queue), condition=SQL(condition))
        for slug, queue, condition in await cursor.fetchall()
    ]
    if not counts:
        return {}
    await cursor.execute(SQL(" union all ").join(counts))
    return {slug: count for slug, count in await cursor.fetchall() if count}


async def requeue_lost_tasks(connection: Connection) -> dict[str, int]:
    """Send messages for tasks that have lost theirs. Return how many, by flow."""
    cursor = connection.cursor(row_factory=scalar_row)
    await cursor.execute(
        "select distinct flow_slug from pgflow.runs where status = 'started' order by 1"
    )
    sent: dict[str, int] = {}
    for slug in await cursor.fetchall():
        last = BATCH
        while last == BATCH:
            await cursor.execute("select pgflow.requeue_lost_tasks(%s, %s)", [slug, BATCH])
            last = await cursor.fetchone() or 0
            sent[slug] = sent.get(slug, 0) + last
    return {slug: count for slug, count in sent.items() if count}
