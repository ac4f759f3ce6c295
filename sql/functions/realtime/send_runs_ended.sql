-- Internal, of connect_realtime(). Sends the events of runs that have ended.
create or replace function pgflow.send_runs_ended()
returns trigger
language plpgsql
set search_path = ''
set enable_hashjoin = on -- and nested loops off: one cached for a single row compares every pair
set enable_nestloop = off
as $$
begin
  perform pgflow.send_run_event(r.run)
  from (
    select to_jsonb(n) as run from new_runs n join old_runs o using (run_id)
    where n.status <> o.status and n.status in ('completed', 'failed') order by n.run_id
  ) r;
  return null;
end
$$;
