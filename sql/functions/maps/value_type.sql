-- Internal, of learn_sizes(), refuse_no_lists(). Returns what a value is, for a message: the
-- type of its JSON, or 'null' for the SQL null.
create or replace function pgflow.value_type(value jsonb, blob_id uuid)
returns text
language plpgsql stable
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_custom_plan -- a generic plan locks every day
as $$
declare
  kind text;
begin
  if blob_id is null then
    return coalesce(jsonb_typeof(value), 'null');
  end if;
  select
    case
      when b.kind = 'text' then 'string'
      when b.kind = 'bytes' then 'bytes'
      when b.kind = 'json' and b.codec = 'none' and b.key_id is null and b.chunk_size is null
        and b.forgotten_at is null then jsonb_typeof(convert_from(b.content, 'UTF8')::jsonb)
      else 'a blob that SQL cannot read'
    end
  into kind from pgflow.output_blobs b where b.id = blob_id;
  return coalesce(kind, 'a blob that is lost');
end
$$;
