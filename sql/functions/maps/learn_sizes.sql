-- Internal, of settle_run(). Notes how many tasks each map of a run will have, once its dependency is done:
-- one for each element, none if the dependency was skipped. Fails the run if the dependency gave no list.
-- Returns whether the run goes on.
create or replace function pgflow.learn_sizes(run_id uuid)
returns boolean
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  map record;
  length integer;
begin
  for map in
    select s.step_slug, d.dep_slug, v.*
    from pgflow.step_states s
    join pgflow.steps using (flow_slug, step_slug)
    left join pgflow.deps d on d.flow_slug = s.flow_slug and d.step_slug = s.step_slug
    cross join lateral pgflow.step_value(s.run_id, d.dep_slug) v
    where
      s.run_id = learn_sizes.run_id and s.status = 'created' and s.remaining_deps = 0
      and s.initial_tasks is null
    order by steps.step_index
  loop
    length := case
      when map.status = 'skipped' then 0
      when map.tasks is not null then map.tasks
      else pgflow.list_length(map.value, map.blob_id) end;
    if length is null then
      perform pgflow.refuse_output(
        learn_sizes.run_id, map.dep_slug, map.step_slug, pgflow.value_type(map.value, map.blob_id)
      );
      return false;
    end if;
    update pgflow.step_states s set initial_tasks = length
    where s.run_id = learn_sizes.run_id and s.step_slug = map.step_slug;
  end loop;
  return true;
end
$$;
