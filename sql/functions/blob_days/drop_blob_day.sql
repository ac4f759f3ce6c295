-- Owner. Drops the blobs of all runs that started on this day (UTC), if every one of these runs ended
-- before `older_than`. Returns the outcome ('dropped', 'kept', or 'busy' if another session is using the
-- tables), and how many blobs and stored bytes the day has.
--
-- Other sessions wait for milliseconds, and almost no WAL is written, however large the day is.
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
set jit = off -- with seqscans off a plan may look costly enough for it, while all others wait
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
  -- Sessions that wrote a blob of this day have committed by now, so we see their runs.
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
