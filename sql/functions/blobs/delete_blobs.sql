-- Internal, of confirm_refusals(). Deletes blobs; a list goes with its elements.
create or replace function pgflow.delete_blobs(ids uuid[])
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_custom_plan -- a generic plan locks every day
as $$
begin
  ids := ids || array(select e.id from pgflow.list_elements(ids) e);
  delete from pgflow.output_blobs b where b.id = any(ids);
end
$$;
