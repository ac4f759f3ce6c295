-- Public. A blob as jsonb, for SQL callers. What is compressed, sealed, in pieces or forgotten is not for
-- them.
create or replace function pgflow.blob_json(id uuid)
returns jsonb
language plpgsql stable
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_custom_plan -- a plan for any id locks all days
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
'A blob as jsonb. Raises if it is compressed, sealed, in chunks or forgotten: use `pgflow-events blob '
'cat`.';
