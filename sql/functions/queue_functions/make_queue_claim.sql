-- Internal, of make_queue_functions(). Creates the function that claims up to qty visible tasks of a flow,
-- those with the lowest message ids. It raises their attempts, and hides the messages for the timeout and
-- 2 seconds. It returns a row for each task, in any order, and a row without a task that sums up.
--
-- With max_bytes, tasks whose handlers load blobs are claimed in order until these bytes are used up. A
-- claim that is its whole transaction (`is_alone`) does not wait for the disk: if a crash loses it, the
-- tasks are claimed again. It waits 3 seconds at most for a table that is locked.
--
-- `next_due` tells when to look again. After a claim that took all it saw that is half a second later:
-- what becomes visible until then is notified, or was hidden for longer. Only a claim that another session
-- rolls back meanwhile is seen so late.
--
-- Many messages at the head of the queue may be hidden, such as those of delayed runs. The session knows
-- that from its last look. It then reads the visible messages by the index on `vt`, those that have been
-- visible for longest. Otherwise it reads the first messages: the index on `vt` may begin with dead entries.
--
-- The function never waits for a row lock, so it may take locks in any order. It reads the ids first and
-- the tasks afterwards: the planner would plan a single query for a table of unknown size.
create or replace function pgflow.make_queue_claim(flow_slug text, queue text)
returns void
language plpgsql
set search_path = ''
as $make$
begin
  execute format($sql$
    create or replace function pgflow_queues.%1$I(
      qty integer, worker_id uuid, max_bytes bigint, is_alone boolean
    )
    returns setof pgflow.claim_record
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_bitmapscan = off -- read only the head of the queue, in the order of ids
    set enable_sort = off
    set plan_cache_mode = force_generic_plan
    as $$
    #variable_conflict use_column
    declare
      first bigint;
      seen_at timestamptz;
      visible bigint[] := array[]::bigint[];
      addresses tid[];
      ids bigint[];
      timeouts integer[];
      sizes bigint[];
      total numeric;
      are_plain boolean;
      dead bigint[];
      summary pgflow.claim_record;
      reappeared boolean;
    begin
      if is_alone then
        perform
          set_config('pgflow.notify', 'off', true), set_config('synchronous_commit', 'off', true),
          set_config('lock_timeout', '3s', true);
      end if;
      if to_regclass(%5$L) is null then
        perform pgflow.tell_of_lost_queue(%3$L);
        summary.next_due := 5::double precision; -- look then whether it is back
        summary.lapsed := false;
        return next summary;
        return;
      end if;
      first := pgflow.queue_floor(%2$L);

      while qty > 0 loop
        if current_setting(%8$L, true) = 'on' then
          seen_at := clock_timestamp();
          visible := array(
            select msg_id from pgmq.%2$I where vt <= seen_at and %4$s
            order by vt limit qty for update skip locked
          );
        else
          visible := array(
            select msg_id from pgmq.%2$I where msg_id >= first and vt <= clock_timestamp() and %4$s
            order by msg_id limit qty for update skip locked
          );
        end if;
        exit when visible = '{}';

        select
          array_agg(f.ctid), array_agg(f.message_id), array_agg(f.timeout), array_agg(f.input_bytes),
          sum(f.input_bytes), bool_and(f.is_plain)
        into addresses, ids, timeouts, sizes, total, are_plain
        from (
          select t.ctid, t.message_id, t.input_bytes, o.timeout, o.is_plain
          from pgflow.step_tasks t
          -- The limit keeps this an index look-up.
          cross join lateral (
            select
              coalesce(s.opt_timeout, f.opt_timeout) as timeout,
              greatest(coalesce(s.opt_max_attempts, f.opt_max_attempts), 1) as max_attempts,
              s.is_plain
            from pgflow.steps s join pgflow.flows f using (flow_slug)
            where s.flow_slug = t.flow_slug and s.step_slug = t.step_slug
            limit 1
          ) o
          where
            t.flow_slug = %3$L and t.message_id = any(visible) and t.status in ('queued', 'started')
            and t.attempts_count < o.max_attempts
          for update of t skip locked
        ) f;
        if total > %1$I.max_bytes then
          select w.addresses, w.ids, w.timeouts into addresses, ids, timeouts
          from (
            select
              array_agg(t.address order by t.place) as addresses, array_agg(t.id order by t.place) as ids,
              array_agg(t.timeout order by t.place) as timeouts, array_agg(t.size order by t.place) as sizes
            from (
              select u.*, array_position(visible, u.id) as place
              from unnest(addresses, ids, timeouts, sizes) as u (address, id, timeout, size)
            ) t
          ) o
          cross join lateral pgflow.within_bytes(
            o.addresses, o.ids, o.timeouts, o.sizes, %1$I.max_bytes
          ) w;
        end if;

        if ids is not null then
          update pgmq.%2$I
          set
            vt = clock_timestamp() + make_interval(secs => timeouts[array_position(ids, msg_id)] + 2.0),
            read_ct = read_ct + 1
          where msg_id = any(ids);

          if not are_plain then
            update pgflow.step_tasks t
            set
              status = 'queued', attempts_count = t.attempts_count + 1, started_at = clock_timestamp(),
              worker_id = %1$I.worker_id
            where t.ctid = any(addresses);
            return query
            select
              t, null::double precision, null::integer[], null::text[],
              null::text[], null::bigint, null::boolean
            from pgflow.task_records(%3$L, ids) t;
            exit;
          end if;

          -- As task_records() does; but these rows are at hand.
          return query
          with claimed as (
            update pgflow.step_tasks t
            set
              status = 'queued', attempts_count = t.attempts_count + 1, started_at = clock_timestamp(),
              worker_id = %1$I.worker_id
            where t.ctid = any(addresses)
            returning t.run_id, t.step_slug, t.message_id, t.task_index, t.attempts_count, t.input_bytes
          )
          select
            row(
              %3$L, c.run_id, c.step_slug,
              case when r.input_blob_id is null then jsonb_build_object('run', r.input) else '{}' end
              || coalesce(deps.outputs, '{}'),
              c.message_id, c.task_index, c.attempts_count, timeouts[array_position(ids, c.message_id)],
              case when r.input_blob_id is null then '{}' else jsonb_build_object('run', r.input_blob_id) end
              || coalesce(deps.refs, '{}'),
              c.input_bytes, null::jsonb
            )::pgflow.step_task_record,
            null::double precision, null::integer[], null::text[], null::text[], null::bigint,
            null::boolean
          from claimed c
          -- The limit keeps this an index look-up.
          cross join lateral (
            select r.input, r.input_blob_id from pgflow.runs r where r.run_id = c.run_id limit 1
          ) r
          cross join lateral (
            select
              jsonb_object_agg(o.step_slug, o.output) filter (where o.output_blob_id is null) as outputs,
              jsonb_object_agg(o.step_slug, o.output_blob_id) filter (where o.output_blob_id is not null)
              as refs
            from pgflow.deps d
            -- A join may be planned to read all tasks of the run, for each of its tasks.
            cross join lateral (
              select o.step_slug, o.output, o.output_blob_id from pgflow.step_tasks o
              where o.run_id = c.run_id and o.step_slug = d.dep_slug and o.task_index = 0
              limit 1
            ) o
            where d.flow_slug = %3$L and d.step_slug = c.step_slug
          ) deps;
          exit;
        end if;

        -- Archive messages without a queued task or a run: they would stay at the head of the queue.
        dead := pgflow.dead_messages(%3$L, visible);
        exit when dead = '{}';
        perform pgflow_queues.%6$I(dead);
      end loop;

      summary.lapsed := false;
      if cardinality(ids) = qty then
        summary.next_due := 0::double precision;
      elsif cardinality(ids) = cardinality(visible) then
        summary.next_due := 0.5::double precision;
      end if;
      -- Where claims always find something, they must raise the floor too, and see that others are hidden.
      -- A claim that knows it need not look again for each lone task.
      if
        summary.next_due is null
        or (
          (visible[1] > first + 100 or visible[cardinality(visible)] > first + 1000)
          and (seen_at is null or summary.next_due = 0)
        )
      then
        select l.next_due, l.reappeared into summary.next_due, reappeared
        from pgflow_queues.%7$I(false) l;
        if summary.next_due = 0 then
          summary.next_bytes := pgflow.next_bytes(%3$L);
          -- The worker may lack the room for that task, so it must know when another message falls due.
          if summary.next_bytes > 0 then
            select l.next_due into summary.next_due from pgflow_queues.%7$I(true) l;
          end if;
        end if;
        summary.lapsed := reappeared and exists (select from pgflow.lapsed_tasks(array[%3$L]));
      end if;
      return next summary;
    end
    $$
  $sql$, 'claim_' || queue, queue, flow_slug, pgflow.task_messages(), format('pgmq.%I', queue),
  'archive_' || queue, 'look_' || queue, 'pgflow.hidden_' || queue);
end
$make$;
