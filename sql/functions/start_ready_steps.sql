-- Starts the steps of a run whose dependencies are all completed.
create or replace function pgflow.start_ready_steps(run_id uuid)
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  perform from pgflow.runs r where r.run_id = start_ready_steps.run_id for no key update;
  perform pgflow.start_steps(array[start_ready_steps.run_id]);
end
$$;
