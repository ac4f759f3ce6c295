-- When the next message of a flow becomes visible, or the time at which one did; null if there is none.
-- With `later`, those that are visible already do not count.
--
-- Of a short queue all messages are looked at. The times of a long one are read from their index, which
-- may begin with many entries of messages that are gone.
create or replace function pgflow.next_visible(
  flow_slug text,
  later boolean default false,
  out due timestamptz,
  out reappeared boolean -- one of the first ones is visible that was claimed before
)
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_bitmapscan = off -- the head of a queue is read in order, and no more of it
set enable_sort = off
as $$
declare
  queue text := pgmq.format_table_name(flow_slug, 'q');
  since timestamptz := case when later then clock_timestamp() else '-infinity' end;
  -- Before the snapshot: what takes a lower id from now on is not looked for.
  last_id bigint := pg_sequence_last_value(
    pg_get_serial_sequence(format('pgmq.%I', queue), 'msg_id')::regclass
  );
  first_id bigint;
  seen bigint;
  snapshot pg_snapshot;
begin
  execute format(
    $sql$
      select
        min(m.msg_id), count(*), min(m.vt) filter (where m.vt > $1),
        coalesce(bool_or(m.read_ct > 0 and m.vt <= clock_timestamp()), false),
        pg_current_snapshot()
      from (select msg_id, vt, read_ct from pgmq.%I where msg_id >= $2 order by msg_id limit 100) m
    $sql$, queue
  ) into first_id, seen, due, reappeared, snapshot using since, pgflow.queue_floor(queue);
  perform pgflow.raise_queue_floor(queue, coalesce(first_id, last_id + 1), snapshot);
  if seen < 100 or due <= clock_timestamp() then
    return;
  end if;

  -- min(vt) may be planned to read them all.
  execute format('select vt from pgmq.%I where vt > $1 order by vt limit 1', queue) into due using since;
end
$$;
