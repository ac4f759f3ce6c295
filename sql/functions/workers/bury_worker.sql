-- Worker. Buries a worker whose seat is free, if it died. Its claimed tasks are marked as lost and
-- become visible at once. Workers and clients of its flows are woken, because it may have died between a
-- commit and notify_owed(). Returns whether the worker was dead.
--
-- A worker whose seat is free still lives if another session holds the worker's lock: those of its pool
-- do, or behind a pooler the one that watches a peer. The last sessions of a dead worker end a moment
-- after its seat is free, so this call waits for them.
create or replace function pgflow.bury_worker(worker_id uuid, seat bigint)
returns boolean
language plpgsql
set search_path = ''
set lock_timeout = '2s'
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  dead record;
begin
  -- If a crash of the server undoes this, another worker does it again, or the timeouts do.
  perform set_config('synchronous_commit', 'off', true);
  begin
    perform pg_advisory_xact_lock(pgflow.worker_key(bury_worker.worker_id));
  exception when lock_not_available or deadlock_detected then
    return false;
  end;
  delete from pgflow.worker_seats w
  where w.worker_id = bury_worker.worker_id and w.seat = bury_worker.seat
  returning w.flow_slugs, w.host, w.pid into dead;
  if not found then
    return false;
  end if;
  -- What a seat says of itself may be anything.
  dead.flow_slugs := array(
    select f.flow_slug from pgflow.flows f where f.flow_slug = any(dead.flow_slugs)
  );
  update pgflow.step_tasks t
  set error_message = format(
    'attempt %s was lost: its worker died (process %s on %s)', t.attempts_count, dead.pid, left(dead.host, 255)
  )
  where t.ctid = any(array(
    select u.ctid from pgflow.worker_tasks(bury_worker.worker_id, dead.flow_slugs) w
    cross join lateral (
      select u.ctid from pgflow.step_tasks u
      where u.run_id = w.run_id and u.step_slug = w.step_slug and u.task_index = w.task_index
      limit 1 for no key update skip locked
    ) u
  ));
  perform pgflow.free_tasks(bury_worker.worker_id, dead.flow_slugs);
  perform pgflow.notify_owed(dead.flow_slugs, dead.flow_slugs);
  perform pg_notify(pgflow.channel('workers', ''), '');
  return true;
end
$$;
