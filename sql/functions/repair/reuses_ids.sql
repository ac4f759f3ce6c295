-- Owner. Returns whether the sequence of a queue has begun again, so that new messages get the ids of
-- archived ones. Null if the caller may not read the sequence.
create or replace function pgflow.reuses_ids(flow_slug text)
returns boolean
language plpgsql stable
set search_path = ''
as $$
declare
  queue text := format('pgmq.%I', pgmq.format_table_name(flow_slug, 'q'));
  ids regclass := pg_get_serial_sequence(queue, 'msg_id')::regclass;
  archived bigint;
begin
  if not has_sequence_privilege(ids, 'select') then
    return null;
  end if;
  execute format(
    'select max(msg_id) from pgmq.%I', pgmq.format_table_name(flow_slug, 'a')
  ) into archived;
  return archived > coalesce(pg_sequence_last_value(ids), 0);
end
$$;
