-- A worker's call: claims up to qty visible tasks of these flows, in this order of flows, whose
-- handlers load no more than max_bytes of blobs together. The commit does not wait for the disk: a claim
-- that a crash undoes is made again.
create or replace function pgflow.claim_tasks(
  flow_slugs text[],
  qty integer,
  worker_id uuid,
  max_bytes bigint -- null: any number
)
returns setof pgflow.claim_record
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
set pgflow.notify = 'off'
as $$
declare
  next_due double precision;
  next_bytes bigint;
begin
  if pgflow.fail_lapsed_tasks(flow_slugs) = 0 then
    perform set_config('synchronous_commit', 'off', true);
  end if;

  return query
  select
    t, null::double precision, null::integer[], null::text[], null::text[],
    null::bigint
  from pgflow.take_tasks(flow_slugs, qty, worker_id, max_bytes) t;

  next_due := pgflow.next_due(flow_slugs);
  if next_due = 0 then
    next_bytes := pgflow.next_bytes(flow_slugs);
    -- It may have to wait for others to end, while something else falls due.
    if next_bytes > 0 then
      next_due := pgflow.next_due(flow_slugs, later => true);
    end if;
  end if;
  return query
  select
    null::pgflow.step_task_record, next_due, null::integer[], null::text[], null::text[],
    next_bytes;
end
$$;
