-- Internal, of complete_task(). Completes a task that may be settled, see there. The output of a step
-- that is no map is in its state too, as in pgflow, unless it is a blob.
create or replace function pgflow.complete_open_task(
  run_id uuid,
  step_slug text,
  task_index integer,
  output jsonb
)
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  blob_id uuid := pgflow.store_large_output(run_id, step_slug, task_index, output);
begin
  perform pgflow.settle_tasks(
    array[run_id], array[step_slug], array[task_index], array[null::integer],
    array[case when blob_id is null then complete_open_task.output end], array[blob_id],
    array[null::text], array[false]
  );
  if complete_open_task.output is not null and blob_id is null then
    update pgflow.step_states s
    set output = (
      select t.output from pgflow.step_tasks t
      where t.run_id = s.run_id and t.step_slug = s.step_slug and t.task_index = 0
    )
    where
      s.run_id = complete_open_task.run_id and s.step_slug = complete_open_task.step_slug
      and s.status = 'completed' and s.output is null and s.output_blob_id is null
      and (
        select o.step_type from pgflow.steps o
        where o.flow_slug = s.flow_slug and o.step_slug = s.step_slug
      ) = 'single';
  end if;
end
$$;
