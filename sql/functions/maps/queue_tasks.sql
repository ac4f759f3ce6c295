-- Internal, of fill_windows(), queue_steps(), start_steps(). Queues the tasks of a step from index `first` to
-- `last`. They become visible after `delay` seconds: at the time in their `queued_at`. The caller has written
-- to the run: raise_queue_floor() relies on a transaction that gets its number before its messages get their
-- ids.
create or replace function pgflow.queue_tasks(
  flow_slug text,
  run_id uuid,
  step_slug text,
  first integer,
  last integer,
  delay double precision
)
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  queue text := pgmq.format_table_name(flow_slug, 'q');
  indexes integer[];
  sizes bigint[];
  due timestamptz := clock_timestamp() + make_interval(secs => coalesce(delay, 0));
begin
  select array_agg(b.task_index order by b.task_index), array_agg(b.bytes order by b.task_index)
  into indexes, sizes
  from pgflow.task_bytes(flow_slug, run_id, step_slug, first, last) b;

  if to_regclass(format('pgmq.%I', queue)) is null then
    -- The tasks wait for requeue_lost_tasks().
    perform pgflow.tell_of_lost_queue(flow_slug);
    insert into pgflow.step_tasks (flow_slug, run_id, step_slug, task_index, input_bytes, queued_at)
    select queue_tasks.flow_slug, queue_tasks.run_id, queue_tasks.step_slug, i.n, i.bytes, due
    from unnest(indexes, sizes) as i (n, bytes);
    return;
  end if;

  execute format($sql$
    with new as materialized (
      select nextval(%L) as message_id, i.* from unnest($4, $5) as i (n, bytes)
    ),
    sent as (
      insert into pgmq.%I (msg_id, vt, message) overriding system value
      select
        message_id, $6, jsonb_build_object('flow_slug', $1, 'run_id', $2, 'step_slug', $3, 'task_index', n)
      from new
    )
    insert into pgflow.step_tasks (
      flow_slug, run_id, step_slug, task_index, message_id, input_bytes, queued_at
    )
    select $1, $2, $3, n, message_id, bytes, $6 from new
  $sql$, pg_get_serial_sequence(format('pgmq.%I', queue), 'msg_id'), queue)
  using flow_slug, run_id, step_slug, indexes, sizes, due;
end
$$;
