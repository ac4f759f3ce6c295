-- Internal, of drop_blob_day(). Locks all that dropping a day locks, or raises soon. Whoever waits for
-- these locks keeps all waiting who come later.
create or replace function pgflow.lock_blob_day(day date)
returns void
language plpgsql
set search_path = ''
set lock_timeout = '100ms'
as $$
begin
  -- The tables first, as everybody else has them: to drop a partition locks its parent too.
  execute format(
    'lock table only pgflow.output_blobs, only pgflow.blob_chunks, %s, %s in access exclusive mode',
    pgflow.blob_partition('output_blobs', day), pgflow.blob_partition('blob_chunks', day)
  );
end
$$;
