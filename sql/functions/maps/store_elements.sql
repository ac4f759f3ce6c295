-- Internal, of start_steps(). Writes down the elements that a map of a run goes over, in rows of up to
-- 100 elements and some 32 kB. Then a task finds its own element without reading the whole list.
create or replace function pgflow.store_elements(run_id uuid, step_slug text)
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  dependency text := (
    select d.dep_slug from pgflow.step_states s
    join pgflow.deps d on d.flow_slug = s.flow_slug and d.step_slug = s.step_slug
    where s.run_id = store_elements.run_id and s.step_slug = store_elements.step_slug
  );
  list record;
begin
  select * into list from pgflow.step_value(run_id, dependency);
  insert into pgflow.map_elements (run_id, step_slug, first_index, elements, blob_ids)
  select
    store_elements.run_id, store_elements.step_slug, min(p.n)::integer,
    jsonb_agg(coalesce(p.value, 'null') order by p.n),
    case when count(p.blob_id) > 0 then array_agg(p.blob_id order by p.n) end
  from (
    select e.*, sum(octet_length(e.value::text)) over (order by e.n) / 32768 as part
    from (
      select t.task_index as n, t.output as value, t.output_blob_id as blob_id
      from pgflow.step_tasks t
      where list.tasks is not null and t.run_id = store_elements.run_id and t.step_slug = dependency
      union all
      select (v.n - 1)::integer, v.value, l.blob_ids[v.n::integer]
      from pgflow.readable_list(list.value, list.blob_id) l,
        jsonb_array_elements(l.elements) with ordinality as v (value, n)
      where list.tasks is null
    ) e
  ) p
  group by p.n / 100, p.part;
end
$$;
