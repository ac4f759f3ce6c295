-- Internal, of cascade_resolve_conditions(). Fails a step of a run that has no task yet, and the run.
create or replace function pgflow.fail_step(run_id uuid, step_slug text, error_message text)
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  update pgflow.step_states s
  set status = 'failed', failed_at = clock_timestamp(), error_message = fail_step.error_message
  where s.run_id = fail_step.run_id and s.step_slug = fail_step.step_slug;
  perform pgflow.fail_runs(array[fail_step.run_id], array[]::pgflow.settled_task[]);
end
$$;
