-- Internal, of connect_realtime(). Sends the events of steps that were started or have ended.
--
-- A map is completed before its output is put together. Its event waits for the output.
create or replace function pgflow.send_steps_changed()
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
    from new_steps n
    join old_steps o on o.run_id = n.run_id and o.step_slug = n.step_slug
    join pgflow.steps d on d.flow_slug = n.flow_slug and d.step_slug = n.step_slug
    where
      case when d.step_type = 'map' and n.status = 'completed'
        then
          num_nonnulls(n.output, n.output_blob_id) > 0
          and (o.status <> 'completed' or num_nonnulls(o.output, o.output_blob_id) = 0)
        else n.status <> o.status and n.status in ('started', 'completed', 'failed', 'skipped') end
    order by n.run_id, d.step_index
  ) r;
  return null;
end
$$;
