-- Internal, of await_seat(), take_seat(). Returns the key of the advisory lock that the holder of this
-- seat holds.
create or replace function pgflow.seat_key(seat bigint)
returns bigint
language sql immutable parallel safe
set search_path = ''
as $$
  select hashtextextended('pgflow.seat.' || seat, 0)
$$;
