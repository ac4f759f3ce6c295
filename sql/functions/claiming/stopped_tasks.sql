-- Worker. Returns which of these attempts are the worker's own no more, by their places in the arrays, and
-- why. The worker stops their handlers.
create or replace function pgflow.stopped_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes integer[],
  attempts integer[],
  worker_id uuid
)
returns table (place integer, why text)
language sql stable
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
  select
    i.n::integer,
    case
      when t.status is null then 'run deleted'
      when t.run_status = 'cancelled' then 'run cancelled'
      when t.status = 'skipped' then 'step skipped'
      when t.run_status = 'failed' then 'run failed'
      when t.status not in ('queued', 'started') then 'task settled'
      else 'lease lost'
    end
  from unnest(run_ids, step_slugs, task_indexes, attempts)
    with ordinality as i (run_id, step_slug, task_index, attempt, n)
  -- The limit keeps this an index look-up.
  left join lateral (
    select t.status, t.attempts_count, t.worker_id, r.status as run_status
    from pgflow.step_tasks t join pgflow.runs r on r.run_id = t.run_id
    where t.run_id = i.run_id and t.step_slug = i.step_slug and t.task_index = i.task_index
    limit 1
  ) t on true
  where
    (
      t.status in ('queued', 'started') and t.run_status = 'started' and t.attempts_count = i.attempt
      and t.worker_id = stopped_tasks.worker_id
    ) is not true
$$;
