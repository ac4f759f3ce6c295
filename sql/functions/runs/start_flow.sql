-- Public. Starts one run of a flow with this input, and returns its row. The commit wakes the workers.
-- An input that is longer than the flow's threshold is stored as a blob: then `input` is JSON null and
-- `input_blob_id` is set. A null run_id stands for a new id.
--
-- Raises:
--   P0002 no_data_found: no flow has this slug.
--   23505 unique_violation: a run has this id already.
--   23502 not_null_violation: the input is the SQL null. For JSON null write 'null'.
--
-- Example:
--   select flow_slug, status, remaining_steps, input from pgflow.start_flow('greet', '"World"');
create or replace function pgflow.start_flow(flow_slug text, input jsonb, run_id uuid default null)
returns setof pgflow.runs
language plpgsql
set search_path = ''
set standard_conforming_strings = on -- pgmq's functions rely on it
as $$
begin
  return query
  select * from pgflow.start_flows(start_flow.flow_slug, array[start_flow.input], array[start_flow.run_id]);
end
$$;

comment on function pgflow.start_flow is
'Starts one run of a flow and returns its row. The commit wakes the workers. Raises if there is no '
'such flow, or if a run has this id already.';
