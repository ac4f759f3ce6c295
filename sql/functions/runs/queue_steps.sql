-- Internal, of settle_tasks(), start_flows(), start_ready_steps(). Queues a task and its message for
-- each of these steps, which have just started. Returns the queued tasks.
--
-- The first `claims` tasks are handed over: queued as claimed by worker_id, unless their handlers would
-- load more than max_bytes of blobs together. No worker has to be woken for them.
create or replace function pgflow.queue_steps(
  steps pgflow.started_step[],
  claims integer default 0,
  worker_id uuid default null,
  max_bytes bigint default null
)
returns pgflow.queued_task[]
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  flow text;
  runs uuid[];
  slugs text[];
  timeouts integer[];
  sizes bigint[];
  queued pgflow.queued_task[] := array[]::pgflow.queued_task[];
begin
  if steps is null then
    return queued;
  end if;
  for flow, runs, slugs, timeouts, sizes in
    with ordered as (
      select
        t.flow_slug, t.run_id, t.step_slug, o.timeout,
        case
          when (select r.has_blobs from pgflow.runs r where r.run_id = t.run_id)
          then pgflow.input_bytes(t.flow_slug, t.run_id, t.step_slug, o.opt_loads) else 0
        end as input_bytes,
        row_number() over (order by t.n, o.step_index) as n
      from unnest(steps) as t
      -- The limit keeps this an index look-up.
      cross join lateral (
        select s.step_index, coalesce(s.opt_timeout, f.opt_timeout) as timeout, s.opt_loads
        from pgflow.steps s join pgflow.flows f using (flow_slug)
        where s.flow_slug = t.flow_slug and s.step_slug = t.step_slug
        limit 1
      ) o
    ),
    summed as (
      select o.*, sum(o.input_bytes) over (order by o.n) as total from ordered o
    )
    select
      flow_slug, array_agg(run_id order by n), array_agg(step_slug order by n),
      array_agg(
        case
          when
            n <= queue_steps.claims
            and (input_bytes = 0 or queue_steps.max_bytes is null or total <= queue_steps.max_bytes)
          then timeout
        end order by n
      ),
      array_agg(input_bytes order by n)
    from summed group by flow_slug
  loop
    queued := queued
      || pgflow.queue_tasks(flow, runs, slugs, timeouts, sizes, queue_steps.worker_id);
  end loop;
  return queued;
end
$$;
