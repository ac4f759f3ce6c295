-- Worker. Looks at the first qty visible messages of a flow, and at the qty that have been
-- visible for longest: a claim reads either. Returns the tasks among them that cannot be
-- read, each with the error.
--
-- A worker calls it after a claim has failed: one unreadable task at the head of the queue keeps all
-- others from being claimed.
create or replace function pgflow.unreadable_tasks(flow_slug text, qty integer)
returns table (
  run_id uuid,
  step_slug text,
  task_index integer,
  attempt integer,
  state text, -- SQLSTATE
  message text
)
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_bitmapscan = off -- read only the head of the queue, in the order of the index
set enable_sort = off
as $$
#variable_conflict use_column
declare
  queue text := pgmq.format_table_name(flow_slug, 'q');
  visible_id bigint;
begin
  for visible_id in execute format(
    '(select msg_id from pgmq.%1$I where msg_id >= $1 and vt <= $2 and %2$s order by msg_id limit $3)'
    ' union (select msg_id from pgmq.%1$I where vt <= $2 and %2$s order by vt limit $3) order by 1',
    queue, pgflow.task_messages()
  ) using pgflow.queue_floor(queue), clock_timestamp(), qty
  loop
    begin
      -- Read it as the text that the server sends, which may be longer than the jsonb. A database without
      -- an encoding (SQL_ASCII) may hold bytes that are not UTF-8, which the server refuses to send.
      perform octet_length(convert_from(convert_to(t.input::text, 'SQL_ASCII'), 'UTF8'))
      from pgflow.task_records(unreadable_tasks.flow_slug, array[visible_id]) t;
    exception when others then
      return query
      select t.run_id, t.step_slug, t.task_index, t.attempts_count, sqlstate::text, sqlerrm::text
      from pgflow.step_tasks t
      where t.flow_slug = unreadable_tasks.flow_slug and t.message_id = visible_id;
    end;
  end loop;
end
$$;
