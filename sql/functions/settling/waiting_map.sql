-- Internal, of complete_task(). Returns the first map that is to go over the output of this step of a
-- run, or null if no map is.
create or replace function pgflow.waiting_map(run_id uuid, step_slug text)
returns text
language sql stable
set search_path = ''
set enable_seqscan = off
as $$
  select m.step_slug
  from (select r.flow_slug from pgflow.runs r where r.run_id = waiting_map.run_id and not r.is_plain) r
  join pgflow.deps d on d.flow_slug = r.flow_slug and d.dep_slug = waiting_map.step_slug
  join pgflow.steps m on m.flow_slug = d.flow_slug and m.step_slug = d.step_slug
  where
    m.step_type = 'map'
    and (
      select o.step_type from pgflow.steps o
      where o.flow_slug = r.flow_slug and o.step_slug = waiting_map.step_slug
    ) = 'single'
    and (
      select w.status = 'created' and w.initial_tasks is null from pgflow.step_states w
      where w.run_id = waiting_map.run_id and w.step_slug = m.step_slug
    )
  order by m.step_index limit 1
$$;
