-- Internal, of add_partition(), drop_blob_day(), ensure_blob_days(), lock_blob_day(). Returns the name
-- of a day's partition of pgflow.output_blobs or pgflow.blob_chunks.
create or replace function pgflow.blob_partition(parent text, day date)
returns text
language sql stable parallel safe
set search_path = ''
as $$
  select format('pgflow.%s_%s', parent, to_char(day, 'YYYYMMDD'))
$$;
