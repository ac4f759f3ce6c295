-- Internal, of finish_maps(), store_large_output(). Returns the number of bytes above which the output of a
-- task becomes a blob. Raises no_data_found if there is no such task.
create or replace function pgflow.task_blob_threshold(run_id uuid, step_slug text, task_index integer)
returns integer
language plpgsql stable
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  threshold integer;
begin
  select
    least(
      coalesce(s.opt_blob_threshold, f.opt_blob_threshold),
      pgflow.inline_limit(s.flow_slug, s.step_slug)
    )
  into threshold
  from (
    select * from pgflow.step_tasks t
    where
      t.run_id = task_blob_threshold.run_id and t.step_slug = task_blob_threshold.step_slug
      and t.task_index = task_blob_threshold.task_index
    -- The limit keeps this an index look-up.
    limit 1
  ) t
  join pgflow.steps s on s.flow_slug = t.flow_slug and s.step_slug = t.step_slug
  join pgflow.flows f on f.flow_slug = t.flow_slug;
  if not found then
    raise exception 'unknown task: run %, step "%", index %',
      task_blob_threshold.run_id, task_blob_threshold.step_slug, task_blob_threshold.task_index
      using errcode = 'no_data_found';
  end if;
  return threshold;
end
$$;
