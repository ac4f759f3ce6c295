-- Wakes the clients that wait for a run of a flow, when runs of that flow have ended.
create or replace function pgflow.notify_runs_ended()
returns trigger
language plpgsql
set search_path = ''
set enable_hashjoin = on -- and nested loops off: one cached for a single row compares every pair
set enable_nestloop = off
as $$
begin
  perform pg_notify(pgflow.channel('runs', q.flow_slug), '')
  from (
    select distinct n.flow_slug from new_runs n join old_runs o using (run_id)
    where n.status <> 'started' and o.status = 'started'
  ) q;
  return null;
end
$$;

create or replace trigger notify_runs_ended
after update on pgflow.runs
referencing old table as old_runs new table as new_runs
for each statement
when (current_setting('pgflow.notify', true) is distinct from 'off')
execute function pgflow.notify_runs_ended();
