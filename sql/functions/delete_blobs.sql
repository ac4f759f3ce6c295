-- Deletes blobs, and with a list its elements.
create or replace function pgflow.delete_blobs(ids uuid[])
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_custom_plan -- a plan for any id locks all days
as $$
declare
  elements uuid[] := array(
    select e.id from pgflow.output_blobs b cross join unnest(b.elements) as e (id)
    where b.id = any(ids) and e.id is not null
  );
begin
  ids := ids || elements;
  delete from pgflow.output_blobs b where b.id = any(ids);
end
$$;
