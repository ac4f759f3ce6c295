-- Worker. The advisory lock that all sessions of a worker share, but for those that listen and watch.
create or replace function pgflow.worker_key(worker_id uuid)
returns bigint
language sql immutable parallel safe
set search_path = ''
as $$
  select hashtextextended('pgflow.worker.' || worker_id, 0)
$$;
