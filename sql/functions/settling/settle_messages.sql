-- Internal, of cancel_runs(), fail_runs(), refuse_type(), release_tasks(), settle_tasks(), skip_steps(). Archives the
-- messages of settled tasks, and delays the messages of tasks that are queued again.
create or replace function pgflow.settle_messages(settled pgflow.settled_task[])
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  flow text;
  queue text;
  done bigint[];
  retried bigint[];
  delays integer[];
begin
  for flow, done, retried, delays in
    select
      t.flow_slug,
      array_agg(t.message_id) filter (where t.status <> 'queued'),
      array_agg(t.message_id) filter (where t.status = 'queued'),
      array_agg(t.delay) filter (where t.status = 'queued')
    from unnest(settled) t group by t.flow_slug
  loop
    queue := pgmq.format_table_name(flow, 'q');
    continue when to_regclass(format('pgmq.%I', queue)) is null; -- the queue and its messages are lost
    if done is not null then
      execute format('select pgflow_queues.%I($1)', 'archive_' || queue) using done;
    end if;
    if retried is not null then
      -- Before pgmq 1.8, pgmq.set_vt() takes a single message.
      execute format(
        $sql$
          update pgmq.%I
          set vt = clock_timestamp() + make_interval(secs => ($2)[array_position($1, msg_id)])
          where msg_id = any($1) and %s
        $sql$, queue, pgflow.task_messages()
      ) using retried, delays;
    end if;
  end loop;
end
$$;
