-- Worker. Claims up to qty visible tasks of these flows, in this order of flows, whose handlers load no
-- more than max_bytes of blobs together. The commit does not wait for the disk: a claim that a crash undoes
-- is made again.
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
-- It waits for no row. A table that somebody has locked shall not keep the other flows waiting.
set lock_timeout = '3s'
as $$
declare
  -- Only superusers make a function that sets it by itself.
  notify text := current_setting('pgflow.notify', true);
begin
  perform set_config('pgflow.notify', 'off', true);
  perform set_config('synchronous_commit', 'off', true);
  return query
  select * from pgflow.take_tasks(
    flow_slugs, array_fill('-infinity'::timestamptz, array[cardinality(flow_slugs)]), qty, worker_id,
    max_bytes
  );
  perform set_config('pgflow.notify', coalesce(notify, ''), true);
end
$$;
