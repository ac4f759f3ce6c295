-- Worker. Returns the key of the advisory lock that all sessions of a worker share, except those that
-- listen and those that watch a peer.
create or replace function pgflow.worker_key(worker_id uuid)
returns bigint
language sql immutable parallel safe
set search_path = ''
as $$
  select hashtextextended('pgflow.worker.' || worker_id, 0)
$$;
