-- Fails the runs of tasks that failed for good: nothing more of them starts, the messages of tasks
-- still queued are archived. Returns the flows of these runs.
create or replace function pgflow.fail_runs(settled pgflow.settled_task[])
returns setof text
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
declare
  runs uuid[] := array(select distinct t.run_id from unnest(settled) t where t.status = 'failed');
begin
  if runs = '{}' then
    return;
  end if;

  update pgflow.step_states s
  set
    status = case when f.run_id is null then 'cancelled' else 'failed' end,
    failed_at = case when f.run_id is not null then clock_timestamp() end
  from pgflow.step_states u
  left join unnest(settled) f
    on f.run_id = u.run_id and f.step_slug = u.step_slug and f.status = 'failed'
  where
    u.run_id = any(runs) and s.run_id = u.run_id and s.step_slug = u.step_slug
    and s.status = 'started';

  perform pgflow.settle_messages(array(select t from pgflow.cancel_tasks(runs) t));

  return query
  update pgflow.runs r set status = 'failed', failed_at = clock_timestamp()
  where r.run_id = any(runs)
  returning r.flow_slug;
end
$$;
