-- Internal, of send_run_event(), send_step_event(). Sends an event to the topic of its run. Nothing
-- happens if Realtime is gone: a run must not stop for that.
create or replace function pgflow.send_event(payload jsonb, event text)
returns void
language plpgsql
set search_path = ''
as $$
begin
  if pgflow.has_realtime() then
    execute 'select realtime.send($1, $2, $3, false)'
    using payload, event, 'pgflow:run:' || (payload ->> 'run_id');
  end if;
end
$$;
