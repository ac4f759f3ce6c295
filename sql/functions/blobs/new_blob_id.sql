-- Internal, of finish_maps(), start_flows(), store_large_output(). Returns an id for a new blob of this run: the first
-- half of the run's id, then random bits.
create or replace function pgflow.new_blob_id(run_id uuid)
returns uuid
language sql volatile parallel safe
set search_path = ''
as $$
  select encode(
    substring(uuid_send(run_id) for 8) || substring(uuid_send(gen_random_uuid()) from 9), 'hex'
  )::uuid
$$;
