-- Internal, of connect_realtime(). Sends the events of runs that were started.
create or replace function pgflow.send_runs_started()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  perform pgflow.send_run_event(r.run)
  from (select to_jsonb(n) as run from new_runs n where n.status = 'started' order by n.run_id) r;
  return null;
end
$$;
