-- The chunks of a blob go with it.
create or replace function pgflow.delete_chunks()
returns trigger
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_custom_plan -- a plan for any id locks all days
as $$
declare
  -- A variable, since a subquery would have all days looked through.
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
