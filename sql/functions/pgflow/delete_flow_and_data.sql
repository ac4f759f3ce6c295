-- Public, as in pgflow. Deletes a flow, its runs with their states, tasks and blobs, and its queue with the
-- archive. Other flows stay as they are. An unknown flow changes nothing. Workers of the flow must have
-- stopped: their next claim raises.
--
-- Example:
--   select pgflow.delete_flow_and_data('greet');
create or replace function pgflow.delete_flow_and_data(p_flow_slug text)
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
set standard_conforming_strings = on -- pgmq's functions rely on it
as $$
begin
  perform from pgflow.flows f where f.flow_slug = p_flow_slug for update;
  if not found then
    return;
  end if;
  perform pgflow.lock_retention();
  perform pgflow.drop_queue_functions(p_flow_slug);
  if pgflow.foreign_queue(p_flow_slug) = '{}' then -- another application's queue stays
    perform pgmq.drop_queue(p_flow_slug);
  end if;
  delete from pgflow.runs r where r.flow_slug = p_flow_slug;
  delete from pgflow.blob_dictionaries d where d.flow_slug = p_flow_slug;
  delete from pgflow.deps d where d.flow_slug = p_flow_slug;
  delete from pgflow.steps s where s.flow_slug = p_flow_slug;
  delete from pgflow.flows f where f.flow_slug = p_flow_slug;
end
$$;

comment on function pgflow.delete_flow_and_data is
'Deletes a flow, its runs with all that belongs to them, and its queue with the archive. Stop its workers '
'first.';
