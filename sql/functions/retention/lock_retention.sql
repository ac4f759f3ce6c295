-- Internal, of delete_runs(), drop_blob_day(), ensure_blob_days(), forget_blobs(). Waits for others who
-- forget, delete or make room, and keeps them waiting until the transaction ends. Each of them is done in
-- some ten milliseconds; two at once could deadlock.
create or replace function pgflow.lock_retention()
returns void
language sql
set search_path = ''
as $$
  select pg_advisory_xact_lock(hashtextextended('pgflow.retention', 0))
$$;
