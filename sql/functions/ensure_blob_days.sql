-- Sees that blobs of runs that start today or within the next days have partitions of their own; a day
-- is one of UTC. What has none goes to the default partition, and a day that already has rows there stays.
-- Where somebody uses that partition for long, it is left to the next call.
create or replace function pgflow.ensure_blob_days(ahead integer default 3)
returns void
language plpgsql
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off
as $$
declare
  today date := clock_timestamp()::date;
  day date;
  lower uuid;
  upper uuid;
begin
  perform pgflow.lock_retention();
  for day in select generate_series(today, today + ahead, '1 day')::date loop
    lower := pgflow.first_id(day::timestamptz);
    upper := pgflow.first_id((day + 1)::timestamptz);
    continue when
      to_regclass(pgflow.blob_partition('output_blobs', day)) is not null
      or exists (select from pgflow.output_blobs_default b where b.id >= lower and b.id < upper);
    begin
      perform pgflow.add_partition('output_blobs', day, lower, upper);
      perform pgflow.add_partition('blob_chunks', day, lower, upper);
    exception when lock_not_available or deadlock_detected or check_violation then
      return;
    end;
  end loop;
end
$$;
