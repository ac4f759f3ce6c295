-- Deletes up to qty runs that ended before `older_than`, with all that belongs to them, in order of their
-- ids. `last` is the id to go on after; null: there are no more. See old_runs().
create or replace function pgflow.delete_runs(
  older_than timestamptz,
  after uuid,
  qty integer,
  busy_days date[],
  out last uuid,
  out runs bigint,
  out tasks bigint,
  out blobs bigint,
  out bytes bigint
)
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  old uuid[];
begin
  perform pgflow.lock_retention();
  old := array(select o from pgflow.old_runs(older_than, after, qty, busy_days) o);
  last := old[cardinality(old)];
  select count(*), coalesce(sum(b.stored_size) filter (where b.forgotten_at is null), 0)::bigint
  into blobs, bytes
  from pgflow.runs r
  cross join lateral (
    select b.stored_size, b.forgotten_at from pgflow.output_blobs b
    where
      b.id between pgflow.first_blob_id(r.run_id) and pgflow.last_blob_id(r.run_id)
      and b.run_id = r.run_id
  ) b
  where r.run_id = any(old) and r.has_blobs;
  select count(*) into tasks from pgflow.step_tasks t where t.run_id = any(old);
  delete from pgflow.runs r where r.run_id = any(old);
  get diagnostics runs = row_count;
end
$$;
