-- Internal, of connect_realtime(). Sends the events of steps that start with their run.
create or replace function pgflow.send_steps_started()
returns trigger
language plpgsql
set search_path = ''
set enable_hashjoin = on -- and nested loops off: one cached for a single row compares every pair
set enable_nestloop = off
as $$
begin
  perform pgflow.send_step_event(r.step)
  from (
    select to_jsonb(n) as step
    from new_steps n join pgflow.steps d on d.flow_slug = n.flow_slug and d.step_slug = n.step_slug
    where n.status = 'started' order by n.run_id, d.step_index
  ) r;
  return null;
end
$$;
