-- Of the tasks given to settle_tasks(), fails those with an error message: for good if the failure
-- is permanent or no attempt is left, else they are queued again.
create or replace function pgflow.fail_attempts(
  run_ids uuid[],
  step_slugs text[],
  task_indexes integer[],
  attempts integer[],
  error_messages text[],
  permanent boolean[]
)
returns setof pgflow.settled_task
language sql
set search_path = ''
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
  update pgflow.step_tasks t
  set
    error_message = left(i.error_message, 8192),
    status = case when o.retried then 'queued' else 'failed' end,
    queued_at = case when o.retried then clock_timestamp() else t.queued_at end,
    started_at = case when o.retried then null else t.started_at end,
    worker_id = case when o.retried then null else t.worker_id end,
    failed_at = case when o.retried then null else clock_timestamp() end
  from unnest(run_ids, step_slugs, task_indexes, attempts, error_messages, permanent)
    with ordinality as i (run_id, step_slug, task_index, attempt, error_message, permanent, n)
  join pgflow.step_tasks u
    on u.run_id = i.run_id and u.step_slug = i.step_slug and u.task_index = i.task_index
  join pgflow.steps s on s.flow_slug = u.flow_slug and s.step_slug = u.step_slug
  join pgflow.flows f on f.flow_slug = u.flow_slug
  cross join lateral (
    select
      coalesce(s.opt_base_delay, f.opt_base_delay) as base_delay,
      not coalesce(i.permanent, false)
      and u.attempts_count < coalesce(s.opt_max_attempts, f.opt_max_attempts) as retried
  ) o
  where
    t.run_id = u.run_id and t.step_slug = u.step_slug and t.task_index = u.task_index
    and i.error_message is not null
    and t.status = 'queued' and t.attempts_count = u.attempts_count
    and t.attempts_count = coalesce(i.attempt, t.attempts_count)
    and (select r.status from pgflow.runs r where r.run_id = t.run_id) = 'started'
  returning
    i.n::integer, t.flow_slug, t.run_id, t.step_slug, t.message_id, t.status,
    pgflow.calculate_retry_delay(o.base_delay, t.attempts_count)
$$;
