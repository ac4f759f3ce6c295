-- Internal, of delete_flow_and_data(), delete_runs(), drop_blob_day(), ensure_blob_days(),
-- forget_blobs(). Waits for the other sessions that are in one of these functions, and makes later ones
-- wait until this transaction ends.
--
-- Each of these functions takes about ten milliseconds. Two of them at once could deadlock.
create or replace function pgflow.lock_retention()
returns void
language sql
set search_path = ''
as $$
  select pg_advisory_xact_lock(hashtextextended('pgflow.retention', 0))
$$;
