-- Internal, of delete_blobs(), forget_blobs(), input_bytes(). Returns the blobs that are elements of
-- these lists, and how many places each one has there.
--
-- A list may name any id. An id that belongs to another run, or to a list, does not count as an element.
create or replace function pgflow.list_elements(ids uuid[])
returns table (id uuid, places bigint)
language plpgsql stable
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_custom_plan -- a generic plan locks every day
as $$
#variable_conflict use_column
declare
  named uuid[];
  runs uuid[];
begin
  select array_agg(e.id), array_agg(l.run_id) into named, runs
  from pgflow.output_blobs l cross join unnest(l.elements) as e (id)
  where l.id = any(list_elements.ids) and e.id is not null;
  return query
  select b.id, n.places
  from pgflow.output_blobs b
  join (
    select u.id, u.run_id, count(*) as places
    from unnest(named, runs) as u (id, run_id) group by u.id, u.run_id
  ) n on n.id = b.id and n.run_id = b.run_id
  where b.id = any(named) and b.elements is null;
end
$$;
