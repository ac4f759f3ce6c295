-- Internal, of blob_days(), blob_faults(), drop_blob_day(), ensure_blob_days(), old_runs(), prunable().
-- Returns the least UUID of version 7 that can be made at this moment or later.
create or replace function pgflow.first_id(moment timestamptz)
returns uuid
language sql immutable parallel safe
set search_path = ''
as $$
  select encode(
    substring(int8send((extract(epoch from moment) * 1000)::bigint) from 3)
    || decode(repeat('00', 10), 'hex'), 'hex'
  )::uuid
$$;
