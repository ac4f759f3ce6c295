-- Internal, of queue_steps(). Queues a task and its message for each of these steps, all of one flow.
-- Returns the queued tasks.
--
-- A task with a timeout (in seconds) is queued as claimed by worker_id: it is on its first attempt, and
-- its message is hidden for as long as a claim hides it.
create or replace function pgflow.queue_tasks(
  flow_slug text,
  run_ids uuid[],
  step_slugs text[],
  timeouts integer[],
  sizes bigint[], -- bytes of blobs that each handler loads
  worker_id uuid
)
returns pgflow.queued_task[]
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  queue text := pgmq.format_table_name(queue_tasks.flow_slug, 'q');
  message_ids bigint[];
  queued pgflow.queued_task[];
begin
  -- If the queue is lost, the tasks wait for requeue_lost_tasks(), and none of them is handed over.
  if to_regclass(format('pgmq.%I', queue)) is null then
    perform pgflow.tell_of_lost_queue(queue_tasks.flow_slug);
    timeouts := array_fill(null::integer, array[cardinality(queue_tasks.run_ids)]);
  else
    execute format('select pgflow_queues.%I($1, $2)', 'send_' || queue)
    into message_ids
    using queue_tasks.timeouts, array(
      select jsonb_build_object(
        'flow_slug', queue_tasks.flow_slug, 'run_id', t.run_id, 'step_slug', t.step_slug, 'task_index', 0
      )
      from unnest(queue_tasks.run_ids, queue_tasks.step_slugs) as t (run_id, step_slug)
    );
  end if;

  with inserted as (
    insert into pgflow.step_tasks as t (
      flow_slug, run_id, step_slug, message_id, attempts_count, worker_id, started_at,
      input_bytes
    )
    select
      queue_tasks.flow_slug, q.run_id, q.step_slug, q.message_id, (q.timeout is not null)::integer,
      case when q.timeout is not null then queue_tasks.worker_id end,
      case when q.timeout is not null then clock_timestamp() end,
      q.size
    from unnest(
      queue_tasks.run_ids, queue_tasks.step_slugs, queue_tasks.timeouts, queue_tasks.sizes, message_ids
    ) as q (run_id, step_slug, timeout, size, message_id)
    returning t.flow_slug, t.message_id, t.started_at is not null as claimed, t.input_bytes
  )
  select array_agg(row(i.flow_slug, i.message_id, i.claimed, i.input_bytes)::pgflow.queued_task)
  into queued from inserted i;
  return queued;
end
$$;
