-- Internal, of make_queue_advance(), task_bytes(). Returns the bytes of blobs that a handler of this step loads: the
-- run's input and the outputs it depends on, lists with their elements. `loads` names the values that the
-- handler takes ('run', or the slugs of dependencies). Null stands for all.
create or replace function pgflow.input_bytes(flow_slug text, run_id uuid, step_slug text, loads text[])
returns bigint
language plpgsql stable
set search_path = ''
set enable_seqscan = off
set enable_nestloop = on -- the caller may have turned it off
set plan_cache_mode = force_custom_plan -- a generic plan locks every day
as $$
#variable_conflict use_column
declare
  ids uuid[] := array(
    select i.id
    from (
      select 'run' as slug, r.input_blob_id as id from pgflow.runs r
      where r.run_id = input_bytes.run_id
      union all
      select t.step_slug, t.output_blob_id
      from pgflow.deps d
      cross join lateral (
        select o.step_slug, o.output_blob_id from pgflow.step_tasks o
        where o.run_id = input_bytes.run_id and o.step_slug = d.dep_slug
      ) t
      where d.flow_slug = input_bytes.flow_slug and d.step_slug = input_bytes.step_slug
    ) i
    where i.id is not null and (input_bytes.loads is null or i.slug = any(input_bytes.loads))
  );
  size bigint;
  lists bigint;
  element_ids uuid[];
  places bigint[];
begin
  if ids = '{}' then
    return 0::bigint;
  end if;
  select coalesce(sum(b.raw_size), 0)::bigint, count(b.elements)
  into size, lists from pgflow.output_blobs b where b.id = any(ids);
  if lists > 0 then
    select array_agg(e.id), array_agg(e.places) into element_ids, places from pgflow.list_elements(ids) e;
    -- An element in several places is in memory several times.
    size := size + (
      select coalesce(sum(b.raw_size * e.places), 0)::bigint
      from pgflow.output_blobs b join unnest(element_ids, places) as e (id, places) on e.id = b.id
      where b.id = any(element_ids)
    );
  end if;
  return size;
end
$$;
