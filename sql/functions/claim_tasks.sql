-- A worker's call: claims up to qty visible tasks of these flows, in this order of flows. The commit
-- does not wait for the disk: a claim that a crash undoes is made again.
create or replace function pgflow.claim_tasks(flow_slugs text[], qty integer, worker_id uuid)
returns setof pgflow.claim_record
language plpgsql
set search_path = ''
set enable_seqscan = off
set pgflow.notify = 'off'
as $$
begin
  if pgflow.fail_lapsed_tasks(flow_slugs) = 0 then
    perform set_config('synchronous_commit', 'off', true);
  end if;

  return query
  select t, null::double precision, null::integer[], null::text[], null::text[]
  from pgflow.take_tasks(flow_slugs, qty, worker_id) t;

  return query
  select
    null::pgflow.step_task_record, pgflow.next_due(flow_slugs),
    null::integer[], null::text[], null::text[];
end
$$;
