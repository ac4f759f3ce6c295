-- Public, as in pgflow. Completes a run that has no remaining steps; changes nothing otherwise, or if
-- there is no such run. `complete_task()` does this by itself. The function is here for programs written
-- for pgflow.
--
-- Example:
--   select run_id from pgflow.runs where flow_slug = 'greet' \gset
--   select pgflow.maybe_complete_run(:'run_id');
create or replace function pgflow.maybe_complete_run(run_id uuid)
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  perform from pgflow.runs r where r.run_id = maybe_complete_run.run_id for no key update;
  perform pgflow.complete_runs(array[maybe_complete_run.run_id]);
end
$$;

comment on function pgflow.maybe_complete_run is
'Completes a run that has no remaining steps. complete_task() does this by itself.';
