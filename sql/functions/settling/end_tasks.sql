-- Internal, of fail_runs(), refuse_type(), skip_steps(). Ends the tasks of these runs that have no outcome
-- yet, as cancelled or skipped, and returns them. A null step_slugs stands for all steps.
create or replace function pgflow.end_tasks(run_ids uuid[], step_slugs text[], status text)
returns setof pgflow.settled_task
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
  update pgflow.step_tasks t set status = end_tasks.status
  where
    t.run_id = any(run_ids) and (end_tasks.step_slugs is null or t.step_slug = any(end_tasks.step_slugs))
    and t.status in ('queued', 'started')
  returning null::integer, t.flow_slug, t.run_id, t.step_slug, t.message_id, t.status, null::integer;
end
$$;
