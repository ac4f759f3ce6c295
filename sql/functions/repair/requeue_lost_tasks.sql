-- Owner. Sends a new message for up to qty tasks of a flow that lost theirs; see lost_tasks(). Returns
-- how many it sent, 0 if the queue is missing.
--
-- Each task waits as long as it would have waited: a claimed task until its lease ends, a task to be
-- retried for the rest of its delay, and one that was delayed from the start until its `queued_at`.
create or replace function pgflow.requeue_lost_tasks(flow_slug text, qty integer default 1000)
returns integer
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  runs uuid[];
  message_ids bigint[];
  lost record;
begin
  if pgflow.lost_queue(flow_slug) <> '{}' then
    return 0;
  end if;
  runs := array(select distinct l.run_id from pgflow.lost_tasks(requeue_lost_tasks.flow_slug, qty) l);
  perform from pgflow.runs r where r.run_id = any(runs) order by r.run_id for no key update;

  -- Look again: before we locked the runs, other sessions may have settled or requeued their tasks.
  select
    array_agg(t.run_id) as run_ids, array_agg(t.step_slug) as step_slugs,
    array_agg(t.task_index) as task_indexes, array_agg(t.due) as dues, array_agg(t.claims) as claims,
    array_agg(jsonb_build_object(
      'flow_slug', t.flow_slug, 'run_id', t.run_id, 'step_slug', t.step_slug, 'task_index', t.task_index
    )) as messages
  into lost
  from (
    select
      t.flow_slug, t.run_id, t.step_slug, t.task_index,
      (t.attempts_count > 0)::integer as claims,
      least(greatest(case when t.attempts_count > 0 then coalesce(
        t.started_at + make_interval(secs => o.timeout + 2.0),
        t.queued_at + make_interval(secs => pgflow.calculate_retry_delay(o.base_delay, t.attempts_count))
      ) else t.queued_at end, clock_timestamp()), clock_timestamp() + '200 years') as due
    from pgflow.lost_tasks(requeue_lost_tasks.flow_slug, null, runs) l
    join pgflow.step_tasks t using (run_id, step_slug, task_index)
    cross join lateral (
      select
        coalesce(s.opt_timeout, f.opt_timeout) as timeout,
        coalesce(s.opt_base_delay, f.opt_base_delay) as base_delay
      from pgflow.steps s join pgflow.flows f using (flow_slug)
      where s.flow_slug = t.flow_slug and s.step_slug = t.step_slug
    ) o
    order by t.queued_at
  ) t;
  if lost.run_ids is null then
    return 0;
  end if;

  execute format($sql$
    with sent as (
      insert into pgmq.%I (vt, read_ct, message)
      select due, claims, message from unnest($1, $2, $3) as t (due, claims, message)
      returning msg_id
    )
    select array_agg(msg_id order by msg_id) from sent
  $sql$, pgmq.format_table_name(requeue_lost_tasks.flow_slug, 'q'))
  into message_ids using lost.dues, lost.claims, lost.messages;
  update pgflow.step_tasks t set message_id = i.message_id
  from unnest(lost.run_ids, lost.step_slugs, lost.task_indexes, message_ids)
    as i (run_id, step_slug, task_index, message_id)
  where t.run_id = i.run_id and t.step_slug = i.step_slug and t.task_index = i.task_index;
  perform pgflow.notify_owed(array[requeue_lost_tasks.flow_slug], '{}');
  return cardinality(message_ids);
end
$$;
