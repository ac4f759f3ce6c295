-- Internal, of make_queue_claim(). Returns those of these messages of a flow that have no queued task, or
-- whose run is gone.
create or replace function pgflow.dead_messages(flow_slug text, message_ids bigint[])
returns bigint[]
language plpgsql stable
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return array(
    select m.id from unnest(message_ids) as m (id)
    where (
      select (select r.run_id from pgflow.runs r where r.run_id = t.run_id)
      from pgflow.step_tasks t
      where t.flow_slug = dead_messages.flow_slug and t.message_id = m.id and t.status in ('queued', 'started')
      limit 1
    ) is null
  );
end
$$;
