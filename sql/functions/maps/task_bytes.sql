-- Internal, of queue_tasks(). Returns how many bytes of blobs the handler of each task of a step loads, from
-- index `first` to `last`: its element, if the step is a map, and what all tasks of the step load.
create or replace function pgflow.task_bytes(
  flow_slug text,
  run_id uuid,
  step_slug text,
  first integer,
  last integer
)
returns table (task_index integer, bytes bigint)
language plpgsql stable
set search_path = ''
set enable_seqscan = off
set enable_nestloop = on -- the caller may have turned it off
set plan_cache_mode = force_custom_plan -- a generic plan locks every day
as $$
#variable_conflict use_column
declare
  step record;
  common bigint := 0::bigint;
  indexes integer[];
  ids uuid[];
begin
  select
    s.step_type = 'map' as is_map,
    case when s.step_type = 'map' then array_remove(coalesce(s.opt_loads, '{run}'), d.dep_slug)
      else s.opt_loads end as loads
  into step
  from pgflow.steps s
  left join pgflow.deps d
  on d.flow_slug = s.flow_slug and d.step_slug = s.step_slug and s.step_type = 'map'
  where s.flow_slug = task_bytes.flow_slug and s.step_slug = task_bytes.step_slug;
  if (select r.has_blobs from pgflow.runs r where r.run_id = task_bytes.run_id) then
    common := pgflow.input_bytes(flow_slug, run_id, step_slug, step.loads);
    select array_agg((e.first_index + b.n - 1)::integer), array_agg(b.id) into indexes, ids
    from pgflow.map_elements e cross join unnest(e.blob_ids) with ordinality as b (id, n)
    where
      step.is_map and e.run_id = task_bytes.run_id and e.step_slug = task_bytes.step_slug
      -- A row has up to 100 elements.
      and e.first_index between task_bytes.first - 99 and task_bytes.last
      and b.id is not null;
  end if;
  return query
  select i.n, common + coalesce(o.raw_size, 0)
  from generate_series(task_bytes.first, task_bytes.last) as i (n)
  left join unnest(indexes, ids) as b (n, id) on b.n = i.n
  left join (
    select o.id, o.raw_size from pgflow.output_blobs o where o.id = any(ids)
  ) o on o.id = b.id;
end
$$;
