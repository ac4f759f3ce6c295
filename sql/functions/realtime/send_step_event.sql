-- Internal, of send_steps_changed(), send_steps_started(). Sends the event of a step, given its row.
create or replace function pgflow.send_step_event(step jsonb)
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_nestloop = on -- the caller has turned it off
as $$
declare
  payload jsonb := pgflow.event_payload('step', step);
  slug text := step ->> 'step_slug';
begin
  if step ->> 'status' = 'completed' then
    payload := payload || (
      select jsonb_build_object('output', pgflow.event_value(v.value, v.blob_id))
      from pgflow.step_value((step ->> 'run_id')::uuid, slug) v
    );
  end if;
  perform pgflow.send_event(payload, format('step:%s:%s', slug, step ->> 'status'));
end
$$;
