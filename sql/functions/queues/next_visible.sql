-- Internal, of look(), take_tasks(). When the next message of a flow becomes visible, or the time at which
-- one did; null if there is none. With `later`, those that are visible already do not count.
--
-- The first messages are looked at, up to one that is visible. If there are many, the times of all are
-- read from their index, which may begin with many entries of messages that are gone.
create or replace function pgflow.next_visible(
  flow_slug text,
  later boolean default false,
  out due timestamptz,
  out reappeared boolean -- the first one that is visible was claimed before
)
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_bitmapscan = off -- the head of a queue is read in order, and no more of it
set enable_sort = off
as $$
declare
  queue text := pgmq.format_table_name(flow_slug, 'q');
  seen_at timestamptz := clock_timestamp();
  -- Before the look: what takes a lower id, or begins to write, from now on is not looked for.
  last_id bigint;
  snapshot pg_snapshot;
  floor bigint;
  first_id bigint;
  seen integer;
begin
  reappeared := false;
  if to_regclass(format('pgmq.%I', queue)) is null then
    due := clock_timestamp() + interval '5 seconds'; -- it is lost: look then whether it is back
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

  -- min(vt) may be planned to read them all.
  execute format(
    'select vt from pgmq.%I where vt > $1 and %s order by vt limit 1', queue, pgflow.task_messages()
  )
  into due using case when later then seen_at else '-infinity' end;
end
$$;
