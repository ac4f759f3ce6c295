-- A blob as jsonb, for SQL callers. What is compressed can be read by a client only.
create or replace function pgflow.blob_json(id uuid)
returns jsonb
language plpgsql stable
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  blob record;
begin
  select b.kind, b.codec, b.content into blob from pgflow.output_blobs b where b.id = blob_json.id;
  if not found then
    raise exception 'unknown blob %', blob_json.id using errcode = 'no_data_found';
  elsif blob.codec <> 'none' then
    raise exception 'blob % is compressed by %: only a client can read it', blob_json.id, blob.codec
      using errcode = 'feature_not_supported';
  end if;
  return case blob.kind
    when 'json' then convert_from(blob.content, 'UTF8')::jsonb
    when 'text' then to_jsonb(convert_from(blob.content, 'UTF8'))
    else to_jsonb(translate(encode(blob.content, 'base64'), e'\n', ''))
  end;
end
$$;
