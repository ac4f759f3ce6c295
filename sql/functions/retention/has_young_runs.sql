-- Internal, of drop_blob_day(), prunable(). Returns whether any run with an id in this range goes on, or
-- ended at `older_than` or later.
create or replace function pgflow.has_young_runs(lower uuid, upper uuid, older_than timestamptz)
returns boolean
language sql stable
set search_path = ''
set enable_seqscan = off
as $$
  select exists (
    select from pgflow.runs r
    where
      r.run_id >= lower and r.run_id < upper
      and (r.status = 'started' or coalesce(r.completed_at, r.failed_at, r.cancelled_at) >= older_than)
  )
$$;
