-- Client. Finishes an input that was written in chunks: stores its sizes, digest and preview. Raises
-- data_exception if a part is missing, and invalid_parameter_value if no such input is being written.
create or replace function pgflow.finish_input(
  id uuid,
  chunks integer,
  raw_size bigint,
  stored_size bigint, -- of chunks that are kept elsewhere; those in the database are counted
  sha256 bytea,
  preview text
)
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_custom_plan -- a generic plan locks every day
as $$
#variable_conflict use_column
declare
  blob record;
  written bigint;
  bytes bigint := stored_size;
begin
  select u.store, u.chunk_size::bigint as size into blob from pgflow.unfinished_input(finish_input.id) u;
  written := chunks::bigint;
  if blob.store is null then
    select count(*), coalesce(sum(length(c.content)), 0) into written, bytes
    from pgflow.blob_chunks c where c.blob_id = finish_input.id and c.seq < finish_input.chunks;
  end if;
  if
    finish_input.sha256 is null or (written = finish_input.chunks) is not true
    or (finish_input.raw_size between
    greatest(0, (written - 1) * blob.size + 1) and written * blob.size) is not true
  then
    raise exception 'blob % was not stored completely', finish_input.id
      using errcode = 'data_exception';
  end if;
  update pgflow.output_blobs b
  set
    raw_size = finish_input.raw_size, stored_size = bytes, sha256 = finish_input.sha256,
    preview = left(finish_input.preview, 40)
  where b.id = finish_input.id;
end
$$;
