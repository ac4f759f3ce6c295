-- Internal, of fail_step(), refuse_output(), settle_tasks(). Fails the runs of tasks that failed for good. Nothing more of them
-- starts, and the messages of their queued tasks are archived. Returns the flows of these runs.
create or replace function pgflow.fail_runs(runs uuid[], settled pgflow.settled_task[])
returns setof text
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
  update pgflow.step_states s
  set
    status = 'failed', failed_at = clock_timestamp(),
    error_message = pgflow.last_error(s.run_id, s.step_slug)
  from unnest(settled) t
  cross join lateral (
    select u.ctid from pgflow.step_states u
    where u.run_id = t.run_id and u.step_slug = t.step_slug limit 1
  ) u
  -- Not those of runs that go on, and not steps that were skipped or completed without the element.
  where t.status = 'failed' and t.run_id = any(runs) and s.ctid = u.ctid and s.status = 'started';

  update pgflow.step_states s set status = 'cancelled'
  where s.run_id = any(runs) and s.status = 'started';

  perform pgflow.settle_messages(array(
    select t from pgflow.end_tasks(runs, null, 'cancelled') t
  ));

  return query
  update pgflow.runs r set status = 'failed', failed_at = clock_timestamp()
  where r.run_id = any(runs)
  returning r.flow_slug;

  perform pgflow.expire_blobs(runs);
end
$$;
