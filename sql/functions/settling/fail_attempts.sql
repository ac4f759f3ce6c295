-- Internal, of settle_tasks(). Fails those of the given tasks that have an error message, and returns
-- them. The caller has locked their runs. A task fails for good if the failure is permanent or no
-- attempt is left. Otherwise it is queued again.
create or replace function pgflow.fail_attempts(
  run_ids uuid[],
  step_slugs text[],
  task_indexes integer[],
  attempts integer[],
  error_messages text[],
  permanent boolean[]
)
returns setof pgflow.settled_task
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
  update pgflow.step_tasks t
  set
    error_message = left(i.error_message, 8192),
    (status, queued_at, started_at, worker_id, failed_at) = (
      select
        case when o.retried then 'queued' else 'failed' end,
        case when o.retried then clock_timestamp() else t.queued_at end,
        case when not o.retried then t.started_at end,
        case when not o.retried then t.worker_id end,
        case when not o.retried then clock_timestamp() end
      from (
        select
          not coalesce(i.permanent, false)
          and t.attempts_count < coalesce(s.opt_max_attempts, f.opt_max_attempts) as retried
        from pgflow.steps s join pgflow.flows f on f.flow_slug = s.flow_slug
        where s.flow_slug = t.flow_slug and s.step_slug = t.step_slug
      ) o
    )
  from unnest(run_ids, step_slugs, task_indexes, attempts, error_messages, permanent)
    with ordinality as i (run_id, step_slug, task_index, attempt, error_message, permanent, n)
  cross join lateral (
    select u.ctid from pgflow.step_tasks u
    where u.run_id = i.run_id and u.step_slug = i.step_slug and u.task_index = i.task_index limit 1
  ) u
  where
    t.ctid = u.ctid and i.error_message is not null
    and t.status in ('queued', 'started') and t.attempts_count = coalesce(i.attempt, t.attempts_count)
    and (select r.status from pgflow.runs r where r.run_id = t.run_id) = 'started'
  returning
    i.n::integer, t.flow_slug, t.run_id, t.step_slug, t.message_id, t.status,
    (
      select pgflow.calculate_retry_delay(
        coalesce(s.opt_base_delay, f.opt_base_delay), t.attempts_count
      )
      from pgflow.steps s join pgflow.flows f on f.flow_slug = s.flow_slug
      where s.flow_slug = t.flow_slug and s.step_slug = t.step_slug
    );
end
$$;
