-- Public, as in pgflow. Records that a registered worker has stopped. An unknown id changes nothing.
--
-- Example:
--   select pgflow.mark_worker_stopped('00000000-0000-0000-0000-000000000001');
create or replace function pgflow.mark_worker_stopped(worker_id uuid)
returns void
language sql
set search_path = ''
as $$
  update pgflow.workers w set stopped_at = clock_timestamp()
  where w.worker_id = mark_worker_stopped.worker_id
$$;

comment on function pgflow.mark_worker_stopped is
'Records in pgflow.workers that a registered worker has stopped.';
