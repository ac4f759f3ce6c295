-- Worker. Finishes a blob that was written in chunks: stores its sizes, digest and preview. Raises
-- data_exception if a chunk is missing.
--
-- Chunks are committed without waiting for the disk, so a crash of the server may have lost the last
-- ones.
create or replace function pgflow.finish_blob(
  id uuid,
  chunks integer,
  raw_size bigint,
  stored_size bigint,
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
  kept_in text;
begin
  update pgflow.output_blobs b
  set
    raw_size = finish_blob.raw_size, stored_size = finish_blob.stored_size,
    sha256 = finish_blob.sha256, preview = finish_blob.preview
  where b.id = finish_blob.id
  returning coalesce(b.store, '') into kept_in;
  if
    not found
    or num_nulls(finish_blob.chunks, finish_blob.raw_size, finish_blob.stored_size, finish_blob.sha256) > 0
    or kept_in = '' and finish_blob.chunks > (
      select count(*) from pgflow.blob_chunks c where c.blob_id = finish_blob.id
    )
  then
    raise exception 'blob % was not stored completely', finish_blob.id
      using errcode = 'data_exception';
  end if;
end
$$;
