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
declare
  flow text;
  queue text;
  ready pgflow.started_step[];
begin
  perform from pgflow.runs r
  where r.run_id = start_ready_steps.run_id and r.status = 'started' for no key update;
  if not found then
    return;
  end if;
  with started as (
    update pgflow.step_states s set status = 'started', started_at = clock_timestamp()
    where
      s.run_id = start_ready_steps.run_id and s.status = 'created' and s.remaining_deps = 0
    returning s.flow_slug, s.run_id, s.step_slug
  )
  select min(s.flow_slug), array_agg(row(s.flow_slug, s.run_id, s.step_slug, 1)::pgflow.started_step)
  into flow, ready from started s;
  if ready is not null then
    queue := pgmq.format_table_name(flow, 'q');
    execute format('select pgflow_queues.%I(null, $1)', 'advance_' || queue) using ready;
  end if;
end
$$;

comment on function pgflow.start_ready_steps is
'Starts the steps of a run whose dependencies are completed. complete_task() does this by itself.';
