-- Public, as in pgflow. Starts the steps of a run whose dependencies are all completed. Changes nothing
-- if the run has no such step, if it has ended, or if there is no such run. `complete_task()` does this
-- by itself. The function is here for programs written for pgflow.
--
-- Example:
--   select run_id from pgflow.runs where flow_slug = 'greet' \gset
--   select pgflow.start_ready_steps(:'run_id');
create or replace function pgflow.start_ready_steps(run_id uuid)
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  perform from pgflow.runs r
  where r.run_id = start_ready_steps.run_id and r.status = 'started' for no key update;
  if found then
    perform pgflow.start_steps(run_id, 0);
  end if;
end
$$;

comment on function pgflow.start_ready_steps is
'Starts the steps of a run whose dependencies are completed. complete_task() does this by itself.';
