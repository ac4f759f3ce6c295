-- Internal, of cancel_runs(), fail_runs(), refuse_type(), skip_steps(). Ends the tasks of these runs that have
-- no outcome yet, as cancelled or skipped, and returns them. A null step_slugs stands for all steps. If
-- workers have some of the tasks, the commit tells them: they stop the handlers.
create or replace function pgflow.end_tasks(run_ids uuid[], step_slugs text[], status text)
returns setof pgflow.settled_task
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  ended record;
begin
  with ended as (
    update pgflow.step_tasks t set status = end_tasks.status
    where
      t.run_id = any(run_ids) and (end_tasks.step_slugs is null or t.step_slug = any(end_tasks.step_slugs))
      and t.status in ('queued', 'started')
    returning t.flow_slug, t.run_id, t.step_slug, t.message_id, t.status, t.started_at
  )
  select
    array_agg(
      row(null, e.flow_slug, e.run_id, e.step_slug, e.message_id, e.status, null)::pgflow.settled_task
    ) as tasks,
    array_agg(distinct e.flow_slug) filter (where e.started_at is not null) as flow_slugs
  into ended from ended e;
  perform pg_notify(pgflow.channel('stopped', slug), '') from unnest(ended.flow_slugs) as o (slug);
  return query select * from unnest(ended.tasks);
end
$$;
