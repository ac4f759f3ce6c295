-- Worker. Waits until a seat is free, for at most `patience` seconds (0: does not wait). Returns 'free'
-- if it was free at once, 'freed' if it became free meanwhile, and 'taken' if the time is over.
--
-- A session that waits has a snapshot. It keeps vacuum from removing rows that died since, in the whole
-- database. So the caller repeats short waits, shorter ones if more is written: next_xid shows how much
-- that is.
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
  -- Shared, so that sessions that wait for the same seat do not take each other for its holder.
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
