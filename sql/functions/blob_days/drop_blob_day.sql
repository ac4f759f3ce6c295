-- Owner. Drops the blobs of all runs that started on this day, if all of them ended before `older_than`.
-- The outcome is 'dropped', 'kept', or 'busy' where somebody uses the tables just now. Others wait for
-- milliseconds, and there is next to no WAL, however much it is.
create or replace function pgflow.drop_blob_day(
  day date,
  older_than timestamptz,
  out outcome text,
  out blobs bigint,
  out bytes bigint
)
language plpgsql
set search_path = ''
set enable_seqscan = off
set jit = off -- plans without an index look dear, and all wait for this one
as $$
#variable_conflict use_column
declare
  bounds record;
begin
  outcome := 'kept';
  perform pgflow.lock_retention();
  select d.lower, d.upper into bounds from pgflow.blob_days() d where d.day = drop_blob_day.day;
  if
    not found or bounds.upper > pgflow.first_id(older_than)
    or pgflow.has_young_runs(bounds.lower, bounds.upper, older_than)
  then
    return;
  end if;
  execute format(
    'select count(*), least(coalesce(sum(stored_size) filter (where forgotten_at is null), 0),'
    ' 9223372036854775807)::bigint from %s',
    pgflow.blob_partition('output_blobs', drop_blob_day.day)
  ) into blobs, bytes;

  begin
    perform pgflow.lock_blob_day(drop_blob_day.day);
  exception when lock_not_available or deadlock_detected then
    outcome := 'busy';
    return;
  end;
  -- Whoever has written a blob there has committed now, so that we see its run.
  if pgflow.has_young_runs(bounds.lower, bounds.upper, older_than) then
    return;
  end if;
  execute format(
    'drop table %s, %s',
    pgflow.blob_partition('blob_chunks', drop_blob_day.day),
    pgflow.blob_partition('output_blobs', drop_blob_day.day)
  );
  insert into pgflow.dropped_days (day) values (drop_blob_day.day) on conflict do nothing;
  outcome := 'dropped';
end
$$;
