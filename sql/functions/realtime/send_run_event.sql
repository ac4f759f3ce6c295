-- Internal, of send_runs_ended(), send_runs_started(). Sends the event of a run, given its row.
--
-- The event of a run that fails has the error of the step that failed before it. Where the output of a
-- step has the wrong type, the run fails first, and its event has no error.
create or replace function pgflow.send_run_event(run jsonb)
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_nestloop = on -- the caller has turned it off
as $$
declare
  payload jsonb := pgflow.event_payload('run', run);
  error text;
begin
  if run ->> 'status' = 'started' then
    payload := payload || jsonb_build_object(
      'input', pgflow.event_value(run -> 'input', (run ->> 'input_blob_id')::uuid)
    );
  elsif run ->> 'status' = 'completed' then
    payload := payload || jsonb_build_object(
      'output', pgflow.event_outputs(run -> 'output', run -> 'output_blobs_refs')
    );
  else
    select s.error_message into error
    from pgflow.step_states s
    where s.run_id = (run ->> 'run_id')::uuid and s.status = 'failed'
    order by s.failed_at desc limit 1;
    payload := payload || case
      when error is null then '{}' else jsonb_build_object('error_message', error)
    end;
  end if;
  perform pgflow.send_event(payload, payload ->> 'event_type');
end
$$;
