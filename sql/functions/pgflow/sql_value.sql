-- Internal, of bare_input(), sql_list(). Returns a value that is JSON or a blob, or null if SQL cannot
-- read it: if it is compressed, sealed, in chunks, forgotten, or longer than 64 MiB.
create or replace function pgflow.sql_value(value jsonb, blob_id uuid)
returns jsonb
language plpgsql stable
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_custom_plan -- a generic plan locks every day
as $$
declare
  blob record;
begin
  if blob_id is null then
    return value;
  end if;
  select b.kind, b.content, b.elements into blob
  from pgflow.output_blobs b
  where
    b.id = blob_id and b.codec = 'none' and b.key_id is null and b.chunk_size is null
    and b.forgotten_at is null and b.raw_size <= 67108864;
  if not found then
    return null;
  elsif blob.elements is not null then
    return pgflow.sql_list(convert_from(blob.content, 'UTF8')::jsonb, blob.elements);
  elsif blob.kind = 'list' then
    return convert_from(blob.content, 'UTF8')::jsonb;
  end if;
  return pgflow.blob_json(blob_id);
end
$$;
