-- Worker. Waits until a seat is free: 'free' if it was already, 'freed' if that was witnessed, or 'taken'
-- once `patience` seconds are over (0: at once).
--
-- A session that waits has a snapshot, which keeps vacuum from removing what has died since, all over
-- the database. So the wait is to be repeated now and then, and the sooner the more is written: to
-- tell is what next_xid is for.
create or replace function pgflow.await_seat(
  seat bigint,
  patience double precision,
  out state text,
  out next_xid bigint
)
language plpgsql
set search_path = ''
as $$
begin
  -- Shared, so that those who wait for the same seat are not taken for its holder.
  if pg_try_advisory_xact_lock_shared(pgflow.seat_key(seat)) then
    state := 'free';
  elsif patience <= 0 then
    state := 'taken';
  else
    perform set_config('lock_timeout', ceil(1000 * patience)::bigint::text, true);
    begin
      perform pg_advisory_xact_lock_shared(pgflow.seat_key(seat));
      state := 'freed';
    exception when lock_not_available then
      state := 'taken';
    end;
  end if;
  next_xid := pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
end
$$;
