-- Internal, of learn_sizes(). Fails a run because a step that a map goes over gave no list. The step's task fails and keeps its
-- output.
create or replace function pgflow.refuse_output(run_id uuid, step_slug text, map_slug text, type text)
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  update pgflow.step_states s
  set
    status = 'failed', failed_at = clock_timestamp(), completed_at = null, output = null,
    error_message = format(
      '[TYPE_VIOLATION] Map step %s expects array input but dependency %s produced %s',
      map_slug, refuse_output.step_slug, type
    )
  where s.run_id = refuse_output.run_id and s.step_slug = refuse_output.step_slug;
  update pgflow.step_tasks t
  set
    status = 'failed', failed_at = clock_timestamp(), completed_at = null,
    error_message = format('[TYPE_VIOLATION] Produced %s instead of array', type)
  where t.run_id = refuse_output.run_id and t.step_slug = refuse_output.step_slug and t.task_index = 0;
  update pgflow.runs r set remaining_steps = r.remaining_steps + 1
  where r.run_id = refuse_output.run_id;
  perform pgflow.fail_runs(array[refuse_output.run_id], array[]::pgflow.settled_task[]);
end
$$;
