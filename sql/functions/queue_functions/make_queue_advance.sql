-- Internal, of make_queue_functions(). Creates the function that archives the messages of completed tasks
-- (`done`), and queues a task and its message for each step that started. The first `claims` tasks are
-- handed over: queued as claimed by worker_id, unless their handlers would load more than max_bytes of
-- blobs together. No worker has to be woken for them. Returns a row for each task that is handed over.
--
-- It queues by one statement, because a statement costs as much as a few look-ups. pgmq.send_batch() has
-- one delay for all of its messages. The caller has written to the runs: raise_queue_floor() relies on a
-- transaction that gets its number before its messages get their ids.
create or replace function pgflow.make_queue_advance(flow_slug text, queue text)
returns void
language plpgsql
set search_path = ''
as $make$
begin
  execute format($sql$
    create or replace function pgflow_queues.%1$I(
      done bigint[],
      steps pgflow.started_step[],
      claims integer default 0,
      worker_id uuid default null,
      max_bytes bigint default null
    )
    returns setof pgflow.claim_record
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
    as $$
    #variable_conflict use_column
    begin
      if to_regclass(%6$L) is null then
        -- The tasks wait for requeue_lost_tasks(), and none of them is handed over.
        perform pgflow.tell_of_lost_queue(%4$L);
        insert into pgflow.step_tasks (flow_slug, run_id, step_slug, input_bytes)
        select
          %4$L, t.run_id, t.step_slug, pgflow.input_bytes(%4$L, t.run_id, t.step_slug, s.opt_loads)
        from unnest(steps) t join pgflow.steps s using (flow_slug, step_slug);
        return;
      end if;
      if done is not null then
        perform pgflow_queues.%2$I(done);
      end if;
      return query
      with ready as materialized (
        select
          nextval(%3$L) as message_id, t.*, case when t.claimed then clock_timestamp() end as started_at
        from (
          select
            s.run_id, s.step_slug, o.timeout, r.input, r.input_blob_id, r.input_bytes,
            row_number() over w <= coalesce(claims, 0) and (
              r.input_bytes = 0 or max_bytes is null or sum(r.input_bytes) over w <= max_bytes
            ) as claimed
          from unnest(steps) s
          -- The limits keep these index look-ups.
          cross join lateral (
            select s2.step_index, coalesce(s2.opt_timeout, f.opt_timeout) as timeout, s2.opt_loads
            from pgflow.steps s2 join pgflow.flows f using (flow_slug)
            where s2.flow_slug = %4$L and s2.step_slug = s.step_slug
            limit 1
          ) o
          cross join lateral (
            select
              r.input, r.input_blob_id,
              case
                when r.has_blobs then pgflow.input_bytes(%4$L, r.run_id, s.step_slug, o.opt_loads) else 0
              end as input_bytes
            from pgflow.runs r where r.run_id = s.run_id limit 1
          ) r
          window w as (order by s.n, o.step_index)
          order by s.n, o.step_index
        ) t
      ),
      sent as (
        insert into pgmq.%5$I (msg_id, vt, read_ct, message) overriding system value
        select
          r.message_id,
          clock_timestamp() + make_interval(secs => case when r.claimed then r.timeout + 2.0 else 0 end),
          r.claimed::integer,
          jsonb_build_object(
            'flow_slug', %4$L, 'run_id', r.run_id, 'step_slug', r.step_slug, 'task_index', 0
          )
        from ready r
      ),
      queued as (
        insert into pgflow.step_tasks (
          flow_slug, run_id, step_slug, message_id, attempts_count, worker_id, started_at, input_bytes
        )
        select
          %4$L, r.run_id, r.step_slug, r.message_id, r.claimed::integer,
          case when r.claimed then %1$I.worker_id end, r.started_at, r.input_bytes
        from ready r
      )
      -- As task_records() does; but these rows are at hand.
      select
        row(
          %4$L, r.run_id, r.step_slug,
          case when r.input_blob_id is null then jsonb_build_object('run', r.input) else '{}' end
          || coalesce(deps.outputs, '{}'),
          r.message_id, 0, 1, r.timeout,
          case when r.input_blob_id is null then '{}' else jsonb_build_object('run', r.input_blob_id) end
          || coalesce(deps.refs, '{}'),
          r.input_bytes, null::jsonb
        )::pgflow.step_task_record,
        null::double precision, null::integer[], null::text[], null::text[], null::bigint, null::boolean
      from ready r
      cross join lateral (
        select
          jsonb_object_agg(o.step_slug, o.output) filter (where o.output_blob_id is null) as outputs,
          jsonb_object_agg(o.step_slug, o.output_blob_id) filter (where o.output_blob_id is not null)
          as refs
        from pgflow.deps d
        -- A join may be planned to read all tasks of the run, for each of its tasks.
        cross join lateral (
          select o.step_slug, o.output, o.output_blob_id from pgflow.step_tasks o
          where o.run_id = r.run_id and o.step_slug = d.dep_slug and o.task_index = 0
          limit 1
        ) o
        where d.flow_slug = %4$L and d.step_slug = r.step_slug
      ) deps
      where r.claimed;
    end
    $$
  $sql$, 'advance_' || queue, 'archive_' || queue,
  pg_get_serial_sequence(format('pgmq.%I', queue), 'msg_id'), flow_slug, queue,
  format('pgmq.%I', queue));
end
$make$;
