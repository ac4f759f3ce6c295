-- Internal, of look(), take_tasks(). Returns when the next message of a flow becomes visible, or when it
-- became visible; null if the queue is empty. With `later`, messages that are visible already do not
-- count.
--
-- It reads the first hundred messages, and stops at one that is visible. If all of these are hidden, it
-- reads the earliest time from the index on `vt`. It does not begin there, because that index may begin
-- with many dead entries.
create or replace function pgflow.next_visible(
  flow_slug text,
  later boolean default false,
  out due timestamptz,
  out reappeared boolean -- the first visible message was claimed before
)
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_bitmapscan = off -- read only the head of the queue, in the order of ids
set enable_sort = off
as $$
declare
  queue text := pgmq.format_table_name(flow_slug, 'q');
  seen_at timestamptz := clock_timestamp();
  -- Read these before looking: ids taken and transactions begun from now on do not count.
  last_id bigint;
  snapshot pg_snapshot;
  floor bigint;
  first_id bigint;
  seen integer;
begin
  reappeared := false;
  if to_regclass(format('pgmq.%I', queue)) is null then
    due := clock_timestamp() + interval '5 seconds'; -- the queue is lost: look then whether it is back
    return;
  end if;
  last_id := pg_sequence_last_value(
    pg_get_serial_sequence(format('pgmq.%I', queue), 'msg_id')::regclass
  );
  snapshot := pg_current_snapshot();
  floor := pgflow.queue_floor(queue);
  execute format('select * from pgflow_queues.%I($1, $2, $3)', 'look_' || queue)
  into first_id, seen, due, reappeared using floor, later, seen_at;
  floor := pgflow.raise_queue_floor(queue, coalesce(first_id, last_id + 1), snapshot);
  if seen < 100 or due <= seen_at then
    return;
  end if;

  -- Not min(vt), which may be planned to read all messages.
  execute format(
    'select vt from pgmq.%I where vt > $1 and %s order by vt limit 1', queue, pgflow.task_messages()
  )
  into due using case when later then seen_at else '-infinity' end;
end
$$;
