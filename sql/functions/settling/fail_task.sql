-- Public. Fails an attempt of a task, and returns the task's row. The task is queued again after a
-- delay; if no attempt is left, the task and its run fail. The first 8192 characters of the error
-- message are stored. A task that is settled already, or whose run has ended, stays as it is. Where a worker
-- written for pgflow serves the queue, a task that nobody has claimed stays as it is too.
--
-- Raises:
--   P0002 no_data_found: there is no such task.
--
-- Example:
--   select run_id, step_slug from pgflow.poll_for_tasks('double', 0, 1) \gset
--   select status, attempts_count, error_message
--   from pgflow.fail_task(:'run_id', :'step_slug', 0, 'out of paper');
create or replace function pgflow.fail_task(
  run_id uuid,
  step_slug text,
  task_index integer,
  error_message text
)
returns setof pgflow.step_tasks
language plpgsql
set search_path = ''
set standard_conforming_strings = on -- pgmq's functions rely on it
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  standing text := pgflow.task_standing(run_id, step_slug, task_index);
begin
  if standing = 'late' then
    perform pgflow._archive_task_message(run_id, step_slug, task_index);
  elsif standing = 'open' then
    perform pgflow.settle_tasks(
      array[fail_task.run_id], array[fail_task.step_slug], array[fail_task.task_index],
      array[null::integer], array[null::jsonb], array[null::uuid],
      array[coalesce(fail_task.error_message, '')], array[false]
    );
  end if;
  return query
  select * from pgflow.step_tasks t
  where
    t.run_id = fail_task.run_id and t.step_slug = fail_task.step_slug
    and t.task_index = fail_task.task_index;
end
$$;

comment on function pgflow.fail_task is
'Fails an attempt of a task: the task is queued again after a delay, or fails with its run if no '
'attempt is left. A task that is settled already stays as it is.';
