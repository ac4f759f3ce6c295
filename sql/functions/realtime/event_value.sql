-- Internal, of event_outputs(), send_run_event(), send_step_event(). Returns a value as an event tells
-- it. A blob would make a large event: its id and its size are told instead.
create or replace function pgflow.event_value(value jsonb, blob_id uuid)
returns jsonb
language sql stable
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_custom_plan -- a generic plan locks every day
as $$
  select case
    when blob_id is null then value
    else jsonb_build_object(
      'blob', blob_id,
      'bytes', (select b.raw_size from pgflow.output_blobs b where b.id = event_value.blob_id)
    )
  end
$$;
