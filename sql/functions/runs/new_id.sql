-- Internal, of make_queue_start(), start_flows(). Returns a UUID of version 7: the milliseconds since 1970, then random
-- bits.
--
-- PostgreSQL has a function for it from version 18 on.
create or replace function pgflow.new_id()
returns uuid
language sql volatile parallel safe
set search_path = ''
as $$
  select encode(
    overlay(
      -- The four bits of the version are 0100 in a random UUID, and must be 0111.
      set_bit(set_bit(uuid_send(gen_random_uuid()), 52, 1), 53, 1)
      placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
      from 1 for 6
    ), 'hex'
  )::uuid
$$;
