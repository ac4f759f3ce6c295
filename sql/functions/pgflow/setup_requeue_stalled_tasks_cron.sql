-- Public, as in pgflow. Lets pg_cron call requeue_stalled_tasks() at this interval, and returns what it
-- did. A later call sets another interval.
--
-- Raises:
--   0A000 feature_not_supported: the extension pg_cron is not installed in this database.
--
-- Example:
--   select pgflow.setup_requeue_stalled_tasks_cron()
--   where exists (select from pg_extension where extname = 'pg_cron');
create or replace function pgflow.setup_requeue_stalled_tasks_cron(cron_interval text default '15 seconds')
returns text
language plpgsql
set search_path = ''
as $$
declare
  job bigint;
begin
  if to_regprocedure('cron.schedule(text, text, text)') is null then
    raise exception 'pg_cron is not installed in this database, so nothing calls '
      'pgflow.requeue_stalled_tasks() by itself: create extension pg_cron'
      using errcode = 'feature_not_supported';
  end if;
  execute 'select cron.schedule($1, $2, $3)' into job
  using 'pgflow_requeue_stalled_tasks', cron_interval, 'select pgflow.requeue_stalled_tasks()';
  return format('Scheduled pgflow_requeue_stalled_tasks every %s (job %s)', cron_interval, job);
end
$$;

comment on function pgflow.setup_requeue_stalled_tasks_cron is
'Lets pg_cron call requeue_stalled_tasks() at this interval. Raises if pg_cron is not installed.';
