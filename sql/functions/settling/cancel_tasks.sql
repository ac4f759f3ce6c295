-- Internal, of fail_runs(). Cancels the tasks of these runs that are still queued, and returns them.
create or replace function pgflow.cancel_tasks(run_ids uuid[])
returns setof pgflow.settled_task
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
  update pgflow.step_tasks t set status = 'cancelled'
  where t.run_id = any(run_ids) and t.status = 'queued'
  returning null::integer, t.flow_slug, t.run_id, t.step_slug, t.message_id, t.status, null::integer;
end
$$;
