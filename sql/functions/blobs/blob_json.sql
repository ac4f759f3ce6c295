-- Public. Returns a blob as jsonb: JSON as it is, text as a JSON string, bytes as a JSON string in
-- base64. Blobs that SQL stored can be read. Blobs that a worker compressed, sealed or split can be read
-- by a client only: use `pgflow-events blob cat`.
--
-- Raises:
--   P0002 no_data_found: no blob has this id.
--   0A000 feature_not_supported: the blob is compressed, sealed, in chunks, a list that is kept by its
--     elements, or forgotten. The message says which.
--
-- Example:
--   select input_blob_id from pgflow.start_flow('double', to_jsonb(repeat('x', 9000))) \gset
--   select length(pgflow.blob_json(:'input_blob_id') #>> '{}') as characters;
create or replace function pgflow.blob_json(id uuid)
returns jsonb
language plpgsql stable
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_custom_plan -- a generic plan locks every day
as $$
#variable_conflict use_column
declare
  blob record;
begin
  select
    b.kind, b.content,
    case
      when b.forgotten_at is not null then 'was forgotten: its bytes are gone'
      when b.chunk_size is not null then 'is stored in chunks: only a client can read it'
      when b.elements is not null then 'is stored by its elements: only a client can read it'
      when b.key_id is not null then 'is sealed: only a client with its key can read it'
      when b.codec <> 'none' then format('is compressed by %s: only a client can read it', b.codec)
    end as obstacle
  into blob from pgflow.output_blobs b where b.id = blob_json.id;
  if not found then
    raise exception 'unknown blob %', blob_json.id using errcode = 'no_data_found';
  elsif blob.obstacle is not null then
    raise exception 'blob % %', blob_json.id, blob.obstacle using errcode = 'feature_not_supported';
  end if;
  return case blob.kind
    when 'json' then convert_from(blob.content, 'UTF8')::jsonb
    when 'text' then to_jsonb(convert_from(blob.content, 'UTF8'))
    else to_jsonb(translate(encode(blob.content, 'base64'), e'\n', ''))
  end;
end
$$;

comment on function pgflow.blob_json is
'Returns a blob as jsonb. Raises if it is forgotten, or if it is compressed, sealed, in chunks or a '
'list: read those four with `pgflow-events blob cat`.';
