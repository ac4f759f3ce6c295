-- Deletes the chunks of deleted blobs.
create or replace function pgflow.delete_chunks()
returns trigger
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_custom_plan -- a generic plan locks every day
as $$
declare
  -- A variable, because with a subquery every day would be searched.
  ids uuid[] := array(
    select b.id from old_blobs b where b.chunk_size is not null and b.store is null
  );
begin
  if ids <> '{}' then
    delete from pgflow.blob_chunks c where c.blob_id = any(ids);
  end if;
  return null;
end
$$;

create or replace trigger delete_chunks
after delete on pgflow.output_blobs
referencing old table as old_blobs
for each statement
execute function pgflow.delete_chunks();
