-- Internal, of adopt_queue(), restore_queue(). Lets a queue begin after all ids that messages of it ever
-- had: a queue that is made again would begin with 1, and tasks and the archive name its messages by their
-- ids.
create or replace function pgflow.raise_queue_ids(flow_slug text)
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
declare
  ids text := pg_get_serial_sequence(
    format('pgmq.%I', pgmq.format_table_name(flow_slug, 'q')), 'msg_id'
  );
  archived bigint;
begin
  execute format(
    'select max(msg_id) from pgmq.%I', pgmq.format_table_name(flow_slug, 'a')
  ) into archived;
  perform setval(
    ids,
    -- Of all flows, since their tasks are indexed by messages alone.
    greatest(
      pg_sequence_last_value(ids::regclass), archived,
      (select max(t.message_id) from pgflow.step_tasks t)
    )
  );
end
$$;
