-- Worker. Gives a worker a seat, and makes it known to its peers, for as long as this session lasts. A
-- later call from another session replaces it. Returns the number of the seat.
--
-- The lock is taken before the row is written: a peer that sees the row must find the seat taken.
create or replace function pgflow.take_seat(
  worker_id uuid,
  flow_slugs text[],
  host text,
  pid integer
)
returns bigint
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  taken bigint := nextval('pgflow.seats');
begin
  perform pg_advisory_lock(pgflow.seat_key(taken));
  insert into pgflow.worker_seats (worker_id, seat, flow_slugs, host, pid)
  values (take_seat.worker_id, taken, take_seat.flow_slugs, take_seat.host, take_seat.pid)
  on conflict (worker_id) do update
  set
    seat = excluded.seat, flow_slugs = excluded.flow_slugs, host = excluded.host, pid = excluded.pid,
    connected_at = excluded.connected_at;
  perform pg_notify(pgflow.channel('workers', ''), '');
  return taken;
end
$$;
