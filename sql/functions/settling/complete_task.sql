-- Public. Completes a task with its output, starts the steps that waited for it, and returns the task's
-- row. The last task of a run completes the run. An output that is longer than the step's threshold is
-- stored as a blob: then `output` is null and `output_blob_id` is set. A task that is settled already,
-- or whose run has ended, stays as it is.
--
-- Raises:
--   P0002 no_data_found: there is no such task.
--
-- Example:
--   select run_id from pgflow.runs where flow_slug = 'greet' \gset
--   select step_slug, status, output
--   from pgflow.complete_task(:'run_id', 'hello', 0, '"Hello, World!"');
create or replace function pgflow.complete_task(
  run_id uuid,
  step_slug text,
  task_index integer,
  output jsonb
)
returns setof pgflow.step_tasks
language plpgsql
set search_path = ''
set standard_conforming_strings = on -- pgmq's functions rely on it
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  blob_id uuid := pgflow.store_large_output(run_id, step_slug, task_index, output);
begin
  perform pgflow.settle_tasks(
    array[complete_task.run_id], array[complete_task.step_slug], array[complete_task.task_index],
    array[null::integer],
    array[case when blob_id is null then complete_task.output end], array[blob_id],
    array[null::text], array[false]
  );
  return query
  select * from pgflow.step_tasks t
  where
    t.run_id = complete_task.run_id and t.step_slug = complete_task.step_slug
    and t.task_index = complete_task.task_index;
end
$$;

comment on function pgflow.complete_task is
'Completes a task with its output, and starts the steps that waited for it. A task that is settled '
'already stays as it is.';
