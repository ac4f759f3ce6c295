-- How many archived messages of a flow were archived before `older_than`.
create or replace function pgflow.old_messages(flow_slug text, older_than timestamptz)
returns bigint
language plpgsql stable
set search_path = ''
as $$
declare
  messages bigint;
begin
  execute format(
    'select count(*) from pgmq.%I where archived_at < $1', pgmq.format_table_name(flow_slug, 'a')
  ) into messages using older_than;
  return messages;
end
$$;
