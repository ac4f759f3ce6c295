-- Internal, of blob_faults(), delete_runs(), discard_unfinished(), refuse_input(), store_input(), the
-- trigger delete_with_runs. Returns the greatest id that a blob of this run can have.
create or replace function pgflow.last_blob_id(run_id uuid)
returns uuid
language sql immutable parallel safe
set search_path = ''
as $$
  select encode(substring(uuid_send(run_id) for 8) || decode(repeat('ff', 8), 'hex'), 'hex')::uuid
$$;
