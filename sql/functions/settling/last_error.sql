-- Internal, of excuse_tasks(), fail_runs(). Returns the error of the task of a step that failed for good last.
create or replace function pgflow.last_error(run_id uuid, step_slug text)
returns text
language sql stable
set search_path = ''
set enable_seqscan = off
as $$
  select t.error_message from pgflow.step_tasks t
  where
    t.run_id = last_error.run_id and t.step_slug = last_error.step_slug and t.status = 'failed'
  order by t.failed_at desc limit 1
$$;
