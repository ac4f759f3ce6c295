-- Public, as in pgflow. Claims the tasks of messages that a worker has read, and returns a row for each.
-- A claim raises attempts_count, sets the status `started`, and hides the message for the timeout of the
-- step and 2 seconds. Messages whose task is not queued, or whose run or step does not go on, are passed
-- over. The column `input` is the element for a task of a map. For any other step it is an object of the
-- outputs of its completed dependencies. `flow_input` is the input of the run, for a step that has no
-- dependencies and is no map. A value that SQL cannot read is the id of a blob in `blobs_refs` instead.
--
-- Tasks that another session has locked are passed over too. Their messages become visible again.
--
-- Example:
--   insert into pgflow.workers (worker_id, queue_name, function_name)
--   values ('00000000-0000-0000-0000-000000000002', 'double', 'example');
--   select step_slug, input, flow_input
--   from pgflow.start_tasks(
--     'double', array(select msg_id from pgmq.read('double', 10, 1)),
--     '00000000-0000-0000-0000-000000000002'
--   );
create or replace function pgflow.start_tasks(flow_slug text, msg_ids bigint[], worker_id uuid)
returns setof pgflow.step_task_record
language plpgsql
set search_path = ''
set standard_conforming_strings = on -- pgmq's functions rely on it
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  addresses tid[];
  ids bigint[];
  timeouts integer[];
begin
  select array_agg(f.ctid), array_agg(f.message_id), array_agg(f.timeout)
  into addresses, ids, timeouts
  from (
    select t.ctid, t.message_id, o.timeout
    from pgflow.step_tasks t
    -- The limit keeps this an index look-up.
    cross join lateral (
      select coalesce(s.opt_timeout, f.opt_timeout) as timeout
      from pgflow.steps s join pgflow.flows f using (flow_slug)
      where s.flow_slug = t.flow_slug and s.step_slug = t.step_slug
      limit 1
    ) o
    where
      t.flow_slug = start_tasks.flow_slug and t.message_id = any(start_tasks.msg_ids)
      and t.status = 'queued'
      and (select r.status from pgflow.runs r where r.run_id = t.run_id) = 'started'
      and (
        select s.status from pgflow.step_states s where s.run_id = t.run_id and s.step_slug = t.step_slug
      ) = 'started'
    for update of t skip locked
  ) f;
  if ids is not null then
    perform pgflow.hide_messages(start_tasks.flow_slug, ids, timeouts);
    return query
    with started as (
      update pgflow.step_tasks t
      set
        status = 'started', attempts_count = t.attempts_count + 1, started_at = clock_timestamp(),
        -- Only our own workers have a seat. A worker_id without one is that of a dead worker.
        worker_id = null, last_worker_id = start_tasks.worker_id
      where t.ctid = any(addresses)
      returning t.*
    )
    select
      t.flow_slug, t.run_id, t.step_slug, i.input, t.message_id, t.task_index, t.attempts_count,
      timeouts[array_position(ids, t.message_id)], i.blobs_refs, t.input_bytes, i.flow_input
    from started t
    cross join lateral pgflow.bare_input(t.flow_slug, t.run_id, t.step_slug, t.task_index) i;
  end if;
end
$$;

comment on function pgflow.start_tasks is
'Claims the tasks of messages that a worker has read: the status becomes started, and the message is hidden '
'for the timeout of the step and 2 seconds. Returns a row for each task.';
