-- Internal, of list_length(), store_elements(). Returns a list that a map goes over: its JSON,
-- with null for each element that is a blob, and the ids of these blobs. Returns no row if the value is no
-- list, or a blob that SQL cannot read.
--
-- Workers store a list that a map goes over by its elements, neither compressed nor sealed.
create or replace function pgflow.readable_list(value jsonb, blob_id uuid)
returns table (elements jsonb, blob_ids uuid[])
language plpgsql stable
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_custom_plan -- a generic plan locks every day
as $$
begin
  if blob_id is not null then
    select convert_from(b.content, 'UTF8')::jsonb, b.elements into elements, blob_ids
    from pgflow.output_blobs b
    where
      b.id = blob_id and b.kind in ('list', 'json') and b.codec = 'none' and b.key_id is null
      and b.chunk_size is null and b.forgotten_at is null;
  else
    elements := value;
  end if;
  if jsonb_typeof(elements) = 'array' then
    return next;
  end if;
end
$$;
