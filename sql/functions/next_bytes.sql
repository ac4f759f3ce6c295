-- Bytes of blobs that the handler of the first visible task of these flows loads; null if there is none.
create or replace function pgflow.next_bytes(flow_slugs text[])
returns bigint
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  slug text;
  id bigint;
begin
  foreach slug in array flow_slugs loop
    execute format(
      'select msg_id from pgmq.%I where vt <= clock_timestamp() order by msg_id limit 1',
      pgmq.format_table_name(slug, 'q')
    ) into id;
    if id is not null then
      return (
        select t.input_bytes from pgflow.step_tasks t where t.flow_slug = slug and t.message_id = id
      );
    end if;
  end loop;
  return null;
end
$$;
