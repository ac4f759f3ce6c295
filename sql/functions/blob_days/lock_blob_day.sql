-- Internal, of drop_blob_day(). Takes every lock that dropping a day takes. Raises lock_not_available if
-- one of them is not free within 100 ms: a session that waits for these locks blocks every session that
-- comes later.
create or replace function pgflow.lock_blob_day(day date)
returns void
language plpgsql
set search_path = ''
set lock_timeout = '100ms'
as $$
begin
  -- The parents first, like every other session: dropping a partition locks its parent too.
  execute format(
    'lock table only pgflow.output_blobs, only pgflow.blob_chunks, %s, %s in access exclusive mode',
    pgflow.blob_partition('output_blobs', day), pgflow.blob_partition('blob_chunks', day)
  );
end
$$;
