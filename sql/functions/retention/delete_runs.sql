-- Owner. Deletes up to qty runs that ended before `older_than`, with everything that belongs to them, in
-- the order of their ids. It stops earlier once their blobs have about 32 MB. Returns counts, and in
-- `last` the id to continue after; null if there are no more runs. See old_runs().
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
  old := array(
    select s.run_id
    from (
      select o.run_id, o.n, sum(b.bytes) over (order by o.n) - b.bytes as before
      from unnest(old) with ordinality as o (run_id, n)
      join pgflow.runs r on r.run_id = o.run_id
      cross join lateral (
        select coalesce(sum(b.stored_size), 0) as bytes from pgflow.output_blobs b
        where
          r.has_blobs and b.forgotten_at is null
          and b.id between pgflow.first_blob_id(o.run_id) and pgflow.last_blob_id(o.run_id)
          and b.run_id = o.run_id
      ) b
    ) s
    where s.before < 32000000
    order by s.n
  );
  last := old[cardinality(old)];
  select
    count(*),
    least(
      coalesce(sum(b.stored_size) filter (where b.forgotten_at is null), 0), 9223372036854775807
    )::bigint
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
