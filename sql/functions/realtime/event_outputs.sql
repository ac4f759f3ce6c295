-- Internal, of send_run_event(). Returns the outputs of a run as an event tells them: see event_value().
create or replace function pgflow.event_outputs(outputs jsonb, blobs_refs jsonb)
returns jsonb
language sql stable
set search_path = ''
as $$
  select nullif(outputs, 'null') || coalesce(
    (
      select jsonb_object_agg(r.slug, pgflow.event_value(null, r.id::uuid))
      from jsonb_each_text(nullif(blobs_refs, 'null')) as r (slug, id)
    ), '{}'
  )
$$;
