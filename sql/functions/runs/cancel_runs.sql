-- Public. Cancels these runs, all in this transaction, and returns the rows of those that it has cancelled.
-- Nothing more of such a run starts: its steps and tasks that have no outcome are cancelled, and their
-- messages archived. The commit wakes clients that wait for the run, and tells workers, which stop the
-- handlers. An answer that a worker sends later is refused.
--
-- A run that has ended stays as it is, and an id without a run is passed over: neither is returned. So the
-- call may be repeated. The first 1000 characters of the reason are stored.
--
-- Only the owner of the schema may call it, and logins to which the owner grants that.
--
-- Example:
--   select run_id from pgflow.runs where flow_slug = 'greet' \gset
--   select status, cancel_reason from pgflow.cancel_runs(array[:'run_id']::uuid[], 'not needed');
create or replace function pgflow.cancel_runs(run_ids uuid[], reason text default null)
returns setof pgflow.runs
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  notify text := current_setting('pgflow.notify', true);
  cancelled uuid[];
begin
  cancelled := array(
    select r.run_id from pgflow.runs r
    where r.run_id = any(cancel_runs.run_ids) and r.status = 'started'
    order by r.run_id for no key update
  );
  if cancelled = '{}' then
    return;
  end if;

  update pgflow.step_states s set status = 'cancelled'
  where s.run_id = any(cancelled) and s.status in ('created', 'started');
  perform pgflow.settle_messages(array(
    select t from pgflow.end_tasks(cancelled, null, 'cancelled') t
  ));
  perform set_config('pgflow.notify', 'on', true);
  update pgflow.runs r
  set
    status = 'cancelled', cancelled_at = clock_timestamp(), cancel_reason = left(cancel_runs.reason, 1000)
  where r.run_id = any(cancelled);
  perform set_config('pgflow.notify', coalesce(notify, ''), true);
  perform pgflow.expire_blobs(cancelled);
  perform pgflow.discard_unfinished(cancelled);

  return query select * from pgflow.runs r where r.run_id = any(cancelled) order by r.run_id;
end
$$;

comment on function pgflow.cancel_runs is
'Cancels these runs, and returns the rows of those that it has cancelled. Workers stop their handlers. A run '
'that has ended stays as it is, and an id without a run is passed over.';
