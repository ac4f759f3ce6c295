-- Worker. Sends what the commit of complete_tasks() left owed. Those who wait for a run of a flow hold its
-- advisory lock before they look at the run, and this is called after the commit: who does not hold it yet
-- will see the run ended, and needs no notification.
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
