-- Internal, of make_queue_claim(). Returns the bytes of blobs that the handler of the first visible task
-- of a flow loads, or null if no task is visible.
create or replace function pgflow.next_bytes(flow_slug text)
returns bigint
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_bitmapscan = off -- read only the head of the queue, in the order of ids
set enable_sort = off
set plan_cache_mode = force_generic_plan
as $$
declare
  queue text := pgmq.format_table_name(flow_slug, 'q');
  id bigint;
begin
  -- The message that the claim reads first.
  if current_setting('pgflow.hidden_' || queue, true) = 'on' then
    execute format(
      'select msg_id from pgmq.%I where vt <= $1 and %s order by vt limit 1', queue, pgflow.task_messages()
    ) into id using clock_timestamp();
  else
    execute format(
      'select msg_id from pgmq.%I where msg_id >= $1 and vt <= clock_timestamp() and %s'
      ' order by msg_id limit 1', queue, pgflow.task_messages()
    ) into id using pgflow.queue_floor(queue);
  end if;
  return (
    select t.input_bytes from pgflow.step_tasks t
    where t.flow_slug = next_bytes.flow_slug and t.message_id = id and t.status in ('queued', 'started')
    limit 1
  );
end
$$;
