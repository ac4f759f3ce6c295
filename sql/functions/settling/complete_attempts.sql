-- Internal, of settle_tasks(). Completes those of the given tasks that have no error message, and
-- returns them. The caller has locked their runs.
create or replace function pgflow.complete_attempts(
  run_ids uuid[],
  step_slugs text[],
  task_indexes integer[],
  attempts integer[],
  outputs jsonb[],
  output_blob_ids uuid[],
  error_messages text[]
)
returns pgflow.settled_task[]
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  settled pgflow.settled_task[];
begin
  with completed as (
    update pgflow.step_tasks t
    set
      status = 'completed', completed_at = clock_timestamp(),
      output = i.output, output_blob_id = i.output_blob_id
    from unnest(run_ids, step_slugs, task_indexes, attempts, outputs, output_blob_ids, error_messages)
      with ordinality
      as i (run_id, step_slug, task_index, attempt, output, output_blob_id, error_message, n)
    cross join lateral (
      select u.ctid from pgflow.step_tasks u
      where u.run_id = i.run_id and u.step_slug = i.step_slug and u.task_index = i.task_index limit 1
    ) u
    where
      t.ctid = u.ctid and i.error_message is null
      and t.status = 'queued' and t.attempts_count = coalesce(i.attempt, t.attempts_count)
      and (select r.status from pgflow.runs r where r.run_id = t.run_id) = 'started'
    returning
      i.n, t.flow_slug, t.run_id, t.step_slug, t.message_id, t.status, t.attempts_count > 1 as retried
  )
  select array_agg(
    row(c.n, c.flow_slug, c.run_id, c.step_slug, c.message_id, c.status, null, c.retried)
    ::pgflow.settled_task
  )
  into settled from completed c;
  return coalesce(settled, array[]::pgflow.settled_task[]);
end
$$;
