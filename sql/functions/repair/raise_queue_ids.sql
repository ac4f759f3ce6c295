-- Internal, of adopt_queue(), restore_queue(). Moves the sequence of a queue past every id that its
-- messages ever had.
--
-- A queue that is created again would begin at 1, but tasks and archived messages refer to messages by
-- id.
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
    -- The greatest of all flows, because there is no index by flow.
    greatest(
      pg_sequence_last_value(ids::regclass), archived,
      (select max(t.message_id) from pgflow.step_tasks t)
    )
  );
end
$$;
