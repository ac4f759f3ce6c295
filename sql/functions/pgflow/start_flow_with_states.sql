-- Public, as in pgflow. Starts a run, and returns it with the states of its steps: see
-- get_run_with_states(). A null run_id stands for a new id.
--
-- Raises:
--   P0002 no_data_found: no flow has this slug.
--   23505 unique_violation: a run has this id already.
--   23502 not_null_violation: the input is the SQL null. For JSON null write 'null'.
--
-- Example:
--   select pgflow.start_flow_with_states('greet', '"World"') -> 'run' ->> 'status' as status;
create or replace function pgflow.start_flow_with_states(
  flow_slug text,
  input jsonb,
  run_id uuid default null
)
returns jsonb
language plpgsql
set search_path = ''
set standard_conforming_strings = on -- pgmq's functions rely on it
as $$
declare
  started uuid := (
    select r.run_id
    from pgflow.start_flows(start_flow_with_states.flow_slug, array[input], array[start_flow_with_states.run_id]) r
  );
begin
  return pgflow.get_run_with_states(started);
end
$$;

comment on function pgflow.start_flow_with_states is
'Starts a run, and returns it with the states of its steps: {"run": ..., "steps": [...]}. Raises if there '
'is no such flow, or if a run has this id already.';
