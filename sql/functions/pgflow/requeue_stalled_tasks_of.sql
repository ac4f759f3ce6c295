-- Internal, of requeue_stalled_tasks(). Does its work for one flow.
--
-- A started task has a message that was read. There are far fewer of these than tasks, which are kept
-- after their end and have no index on their status.
create or replace function pgflow.requeue_stalled_tasks_of(flow_slug text)
returns integer
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  queue text := pgmq.format_table_name(flow_slug, 'q');
  read bigint[];
  requeued bigint[];
  stalled bigint[];
begin
  if to_regclass(format('pgmq.%I', queue)) is null then -- the queue is lost
    return 0;
  end if;
  execute format(
    'select array_agg(msg_id) from pgmq.%I where msg_id >= $1 and read_ct > 0 and %s',
    queue, pgflow.task_messages()
  ) into read using pgflow.queue_floor(queue);

  with late as (
    select t.ctid
    from pgflow.step_tasks t
    where
      t.flow_slug = requeue_stalled_tasks_of.flow_slug and t.message_id = any(read)
      and t.status = 'started' and t.permanently_stalled_at is null
      and t.started_at < clock_timestamp() - make_interval(secs => 30.0 + (
        select coalesce(s.opt_timeout, f.opt_timeout)
        from pgflow.steps s join pgflow.flows f using (flow_slug)
        where s.flow_slug = t.flow_slug and s.step_slug = t.step_slug
      ))
      and (select r.status from pgflow.runs r where r.run_id = t.run_id) = 'started'
      and (
        select s.status from pgflow.step_states s where s.run_id = t.run_id and s.step_slug = t.step_slug
      ) = 'started'
    for update of t skip locked
  ),
  changed as (
    update pgflow.step_tasks t
    set
      (status, queued_at, started_at, last_worker_id, requeued_count, last_requeued_at,
       permanently_stalled_at) = (
        select
          case when o.again then 'queued' else t.status end,
          case when o.again then o.now else t.queued_at end,
          case when not o.again then t.started_at end,
          case when not o.again then t.last_worker_id end,
          t.requeued_count + o.again::integer,
          case when o.again then o.now else t.last_requeued_at end,
          case when not o.again then o.now end
        from (select t.requeued_count < 3 as again, clock_timestamp() as now) o
      )
    where t.ctid = any(array(select late.ctid from late))
    returning t.message_id, t.permanently_stalled_at is null as again
  )
  select
    array_agg(c.message_id) filter (where c.again), array_agg(c.message_id) filter (where not c.again)
  into requeued, stalled
  from changed c;

  execute format('update pgmq.%I set vt = clock_timestamp() where msg_id = any($1)', queue) using requeued;
  execute format('select pgflow_queues.%I($1)', 'archive_' || queue) using stalled;
  return coalesce(cardinality(requeued), 0);
end
$$;
