-- Worker. Gives back tasks that a leaving worker has not finished, as if it had never claimed them. They
-- can be claimed at once, and the attempt does not count. Returns how many tasks it gave back.
--
-- A task is given back if it is still queued under the named attempt and worker. The attempt alone is
-- not enough, because its number will be given to another attempt. So a worker that repeats the call
-- after a lost answer cannot take the task from the worker that has it by then. After this call, a
-- worker must send nothing more about these tasks.
--
-- Locks are taken in the order of settle_tasks(). The commit does not wait for the disk: what a crash
-- undoes is left to the timeouts.
create or replace function pgflow.release_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes integer[],
  attempts integer[],
  worker_id uuid
)
returns integer
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  notify text := current_setting('pgflow.notify', true);
  released pgflow.settled_task[];
begin
  perform set_config('synchronous_commit', 'off', true);
  perform from pgflow.runs r where r.run_id = any(run_ids) order by r.run_id for no key update;
  perform set_config('pgflow.notify', 'on', true);
  with freed as (
    update pgflow.step_tasks t
    set
      attempts_count = t.attempts_count - 1, queued_at = clock_timestamp(), started_at = null,
      worker_id = null
    from unnest(run_ids, step_slugs, task_indexes, attempts)
      with ordinality as i (run_id, step_slug, task_index, attempt, n)
    cross join lateral (
      select u.ctid from pgflow.step_tasks u
      where u.run_id = i.run_id and u.step_slug = i.step_slug and u.task_index = i.task_index limit 1
    ) u
    where
      t.ctid = u.ctid and t.status = 'queued' and t.attempts_count = i.attempt
      and t.worker_id = release_tasks.worker_id
    returning i.n::integer, t.flow_slug, t.run_id, t.step_slug, t.message_id, t.status
  )
  select array_agg(
    row(f.n, f.flow_slug, f.run_id, f.step_slug, f.message_id, f.status, 0)::pgflow.settled_task
  ) into released
  from freed f;
  perform set_config('pgflow.notify', coalesce(notify, ''), true);

  if released is null then
    return 0;
  end if;
  perform pgflow.settle_messages(released);
  perform pgflow.discard_unfinished(array(select t.run_id from unnest(released) t));
  return cardinality(released);
end
$$;
