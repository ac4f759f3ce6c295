-- Internal, of await_seat(), take_seat(). The advisory lock that is held by who has this seat.
create or replace function pgflow.seat_key(seat bigint)
returns bigint
language sql immutable parallel safe
set search_path = ''
as $$
  select hashtextextended('pgflow.seat.' || seat, 0)
$$;
