-- Internal, of make_queue_functions(). Creates the function that tells in how many seconds the next message
-- of a queue becomes visible: 0 if one is, null if the queue is empty. With `later`, messages that are
-- visible already do not count. It raises the floor of the queue, if it can.
--
-- It reads the first hundred messages, and stops at one that is visible. If all of these are hidden, it
-- reads the earliest time from the index on `vt`. It does not begin there, because that index may begin
-- with many dead entries.
--
-- It notes for this session whether the head of the queue is hidden: the first hundred messages, and the
-- one that comes a thousand ids later. Then claims read the index on `vt`, until a look finds less than a
-- hundred messages, and none of them visible. Both ways find each visible message, so the note may be old.
create or replace function pgflow.make_queue_look(queue text)
returns void
language plpgsql
set search_path = ''
as $make$
begin
  execute format($sql$
    create or replace function pgflow_queues.%1$I(
      later boolean,
      out next_due double precision,
      out reappeared boolean -- the first visible message was claimed before
    )
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_sort = off
    set plan_cache_mode = force_generic_plan
    as $$
    declare
      seen_at timestamptz := clock_timestamp();
      -- Read these before looking: ids taken and transactions begun from now on do not count.
      last_id bigint := pg_sequence_last_value(pg_get_serial_sequence(%4$L, 'msg_id')::regclass);
      snapshot pg_snapshot := pg_current_snapshot();
      first bigint := pgflow.queue_floor(%2$L);
      entry record;
      first_id bigint;
      seen integer := 0;
      due timestamptz;
      reads integer;
      is_hidden boolean := coalesce(current_setting(%5$L, true) = 'on', false);
    begin
      reappeared := false;
      for entry in
        select msg_id, vt, read_ct from pgmq.%2$I where msg_id >= first and %3$s
        order by msg_id limit 100
      loop
        seen := seen + 1;
        first_id := coalesce(first_id, entry.msg_id);
        if entry.vt > seen_at then
          due := least(due, entry.vt);
        elsif not later then
          due := entry.vt;
          reappeared := entry.read_ct > 0;
          exit;
        end if;
      end loop;
      perform pgflow.raise_queue_floor(%2$L, coalesce(first_id, last_id + 1), snapshot);
      if seen = 100 and (due > seen_at) is not false then
        -- Not min(vt), which may be planned to read all messages.
        select vt, read_ct into due, reads from pgmq.%2$I
        where vt > case when later then seen_at else '-infinity'::timestamptz end and %3$s
        order by vt limit 1;
        reappeared := coalesce(due <= seen_at and reads > 0, false);
        if not is_hidden and not later and (
          select vt > seen_at from pgmq.%2$I where msg_id >= first_id + 1000 and %3$s order by msg_id limit 1
        ) then
          perform set_config(%5$L, 'on', false);
        end if;
      elsif is_hidden and seen < 100 and (due > seen_at) is not false then
        perform set_config(%5$L, 'off', false);
      end if;
      if due is not null then -- greatest() would turn null into 0
        -- A message may hold any time, and not every two times can be subtracted.
        next_due := extract(
          epoch from least(greatest(due, seen_at), seen_at + interval '1 year') - seen_at
        )::double precision;
      end if;
    end
    $$
  $sql$, 'look_' || queue, queue, pgflow.task_messages(), format('pgmq.%I', queue),
  'pgflow.hidden_' || queue);
end
$make$;
