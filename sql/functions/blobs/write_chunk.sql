-- Worker. Writes a chunk of a blob that open_blob() began. Writing the same chunk again changes nothing.
-- Returns false if the blob has been deleted.
--
-- The commit need not wait for the disk: the commit that completes the task does, and it comes later.
create or replace function pgflow.write_chunk(
  blob_id uuid,
  seq integer,
  content bytea,
  wait_for_disk boolean default true
)
returns boolean
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_custom_plan -- a generic plan locks every day
as $$
#variable_conflict use_column
begin
  if not wait_for_disk then
    perform set_config('synchronous_commit', 'off', true);
  end if;
  -- A session that deletes the blob waits for us, and then sees this chunk.
  perform from pgflow.output_blobs b where b.id = write_chunk.blob_id for key share;
  if not found then
    return false;
  end if;
  insert into pgflow.blob_chunks (blob_id, seq, content)
  values (write_chunk.blob_id, write_chunk.seq, write_chunk.content)
  on conflict do nothing;
  return true;
end
$$;
