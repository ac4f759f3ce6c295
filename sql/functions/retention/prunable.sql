-- Owner. Returns what pruning would forget now, and what it would delete with the runs that ended before
-- `older_than`. It changes nothing.
create or replace function pgflow.prunable(
  older_than timestamptz,
  out days date[],
  out forgotten bigint,
  out runs bigint,
  out tasks bigint,
  out blobs bigint,
  out bytes bigint,
  out messages bigint,
  out dictionaries bigint
)
language sql stable
set search_path = ''
as $$
  with old as materialized (
    select r.run_id from pgflow.runs r
    where
      (
        r.run_id < pgflow.first_id(older_than)
        or r.run_id >= pgflow.first_id(clock_timestamp()) -- see old_runs()
      )
      and r.status <> 'started' and coalesce(r.completed_at, r.failed_at, r.cancelled_at) < older_than
  ),
  due as materialized (
    select b.id, b.elements from pgflow.output_blobs b
    where b.expires_at <= clock_timestamp() and b.forgotten_at is null
  ),
  due_blobs as materialized (
    select b.id, b.stored_size from pgflow.output_blobs b
    where
      b.forgotten_at is null
      and b.id in (select d.id from due d union all select unnest(d.elements) from due d)
  ),
  old_blobs as (
    select
      count(*) as n,
      sum(b.stored_size) filter (where b.forgotten_at is null and d.id is null) as bytes
    from pgflow.output_blobs b join old using (run_id) left join due_blobs d on d.id = b.id
  )
  select
    array(
      select d.day from pgflow.blob_days() d
      where
        d.upper <= pgflow.first_id(older_than)
        and not pgflow.has_young_runs(d.lower, d.upper, older_than)
    ),
    (select count(*) from due_blobs),
    (select count(*) from old),
    (select count(*) from pgflow.step_tasks t join old using (run_id)),
    o.n,
    least(
      coalesce(o.bytes, 0) + (select coalesce(sum(d.stored_size), 0) from due_blobs d),
      9223372036854775807
    )::bigint,
    (
      select coalesce(sum(pgflow.old_messages(f.flow_slug, older_than)), 0)::bigint
      from pgflow.flows f
    ),
    (select count(*) from pgflow.unused_dictionaries())
  from old_blobs o
$$;
