-- Internal, of make_queue_claim(). Returns which of these tasks a claim may take whose handlers may load
-- max_bytes together: those that load nothing, and of the others the first ones.
create or replace function pgflow.within_bytes(
  inout addresses tid[],
  inout ids bigint[],
  inout timeouts integer[],
  sizes bigint[],
  max_bytes bigint
)
language sql immutable parallel safe
set search_path = ''
as $$
  select array_agg(s.address), array_agg(s.id), array_agg(s.timeout)
  from (
    select t.*, sum(t.size) over (order by t.place) as total
    from unnest(addresses, ids, timeouts, sizes) with ordinality as t (address, id, timeout, size, place)
  ) s
  where s.size = 0 or s.total <= max_bytes
$$;
