-- Starts one run of a flow.
create or replace function pgflow.start_flow(flow_slug text, input jsonb)
returns setof pgflow.runs
language sql
set search_path = ''
as $$
  select * from pgflow.start_flows(start_flow.flow_slug, array[start_flow.input])
$$;
