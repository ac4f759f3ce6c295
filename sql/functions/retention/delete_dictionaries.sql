-- Owner. Deletes the dictionaries that nothing uses any more. Returns how many.
create or replace function pgflow.delete_dictionaries()
returns bigint
language plpgsql
set search_path = ''
as $$
declare
  deleted bigint;
begin
  delete from pgflow.blob_dictionaries d
  where d.id = any(array(select u from pgflow.unused_dictionaries() u));
  get diagnostics deleted = row_count;
  return deleted;
end
$$;
