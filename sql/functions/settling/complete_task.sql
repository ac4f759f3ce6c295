-- Public. Completes a task with its output, starts the steps that waited for it, and returns the task's
-- row. The last task of a run completes the run. An output that is longer than the step's threshold is
-- stored as a blob: then `output` is null and `output_blob_id` is set. A task that is settled already,
-- or whose run has ended, stays as it is. Where a worker written for pgflow serves the queue, a task that
-- nobody has claimed stays as it is too.
--
-- If a map goes over the output and the output is no list, the task, its step and its run fail.
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
  standing text := pgflow.task_standing(run_id, step_slug, task_index);
  map_slug text;
begin
  if standing = 'open' and jsonb_typeof(complete_task.output) is distinct from 'array' then
    map_slug := pgflow.waiting_map(run_id, step_slug);
  end if;
  if standing = 'late' then
    perform pgflow._archive_task_message(run_id, step_slug, task_index);
  elsif map_slug is not null then
    perform pgflow.refuse_type(run_id, step_slug, map_slug, complete_task.output);
  elsif standing = 'open' then
    perform pgflow.complete_open_task(run_id, step_slug, task_index, complete_task.output);
  end if;
  return query
  select * from pgflow.step_tasks t
  where
    t.run_id = complete_task.run_id and t.step_slug = complete_task.step_slug
    and t.task_index = complete_task.task_index;
end
$$;

comment on function pgflow.complete_task is
'Completes a task with its output, and starts the steps that waited for it. A task that is settled '
'already stays as it is. The run fails if a map goes over an output that is no list.';
