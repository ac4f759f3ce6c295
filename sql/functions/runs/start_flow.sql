-- Public. Starts one run of a flow.
create or replace function pgflow.start_flow(flow_slug text, input jsonb)
returns setof pgflow.runs
language plpgsql
set search_path = ''
set standard_conforming_strings = on -- pgmq's functions are written for it
as $$
begin
  return query select * from pgflow.start_flows(start_flow.flow_slug, array[start_flow.input]);
end
$$;

comment on function pgflow.start_flow is
'Starts one run of a flow and returns it. The commit wakes the workers. Raises if there is no such flow.';
