-- Makes good for a worker whose seat is free, if that is because it died: what it has claimed and not
-- settled can be claimed at once, and those are woken whom it may have left without their
-- notifications, between a commit and notify_owed(). Returns whether it was dead.
--
-- It lives if another of its sessions does: each holds the worker's lock. The last ones of a dead
-- worker end a moment after its seat is free, and are waited for.
create or replace function pgflow.bury_worker(worker_id uuid, seat bigint)
returns boolean
language plpgsql
set search_path = ''
set lock_timeout = '2s'
as $$
#variable_conflict use_column
declare
  slugs text[];
begin
  -- What a crash of the server undoes here is done again, or the timeouts do it.
  perform set_config('synchronous_commit', 'off', true);
  begin
    perform pg_advisory_xact_lock(pgflow.worker_key(bury_worker.worker_id));
  exception when lock_not_available or deadlock_detected then
    return false;
  end;
  delete from pgflow.worker_seats w
  where w.worker_id = bury_worker.worker_id and w.seat = bury_worker.seat
  returning w.flow_slugs into slugs;
  if not found then
    return false;
  end if;
  perform pgflow.free_tasks(bury_worker.worker_id, slugs);
  perform pgflow.notify_owed(slugs, slugs);
  perform pg_notify(pgflow.channel('workers', ''), '');
  return true;
end
$$;
