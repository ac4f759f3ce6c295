-- Worker. Creates the partitions for blobs of runs that start today or within the next `ahead` days. A
-- day is one of UTC. Raises invalid_parameter_value if `ahead` is more than 31 and the caller is not the
-- owner.
--
-- Blobs of a day without a partition are in the default partition. A few rows of such a day move to the
-- day's new partition. A day with many rows stays in the default partition. If another session keeps
-- that partition locked, the rest is left to the next call.
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
  -- Every query that looks through the days locks each of them.
  if ahead > 31 and not pg_has_role(session_user, current_user, 'usage') then
    raise exception 'partitions for % days to come are too many: 31 at most', ahead
      using errcode = 'invalid_parameter_value';
  end if;
  perform pgflow.lock_retention();
  for day in select generate_series(today, today + ahead, '1 day')::date loop
    lower := pgflow.first_id(day::timestamptz);
    upper := pgflow.first_id((day + 1)::timestamptz);
    continue when
      to_regclass(pgflow.blob_partition('output_blobs', day)) is not null
      or (
        select count(*) > 1000 or sum(m.bytes) > 32000000
        from (
          select octet_length(b.content) as bytes from pgflow.output_blobs_default b
          where b.id >= lower and b.id < upper
          union all
          select octet_length(c.content) from pgflow.blob_chunks_default c
          where c.blob_id >= lower and c.blob_id < upper
          limit 1001
        ) m
      );
    begin
      perform pgflow.add_partition('output_blobs', day, lower, upper);
      perform pgflow.add_partition('blob_chunks', day, lower, upper);
    exception when lock_not_available or deadlock_detected then
      return;
    end;
  end loop;
end
$$;
