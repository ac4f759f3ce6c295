-- Worker. Sends the notifications that the commit of complete_tasks() left owed.
--
-- A client that waits for a run takes the advisory lock of the flow before it looks at the run. This
-- function is called after the commit that ended the run. So a client that does not hold the lock yet
-- will find the run ended, and needs no notification.
create or replace function pgflow.notify_owed(owed_tasks text[], owed_runs text[])
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform pg_notify(pgflow.channel('tasks', slug), '') from unnest(owed_tasks) as o (slug);
  perform pg_notify(pgflow.channel('runs', slug), '') from (select distinct unnest(owed_runs)) as o (slug)
  where not pg_try_advisory_xact_lock(pgflow.waiting_key(slug));
end
$$;
