-- Public, as in pgflow. Completes the steps of a run that are ready and have no task: maps over an empty list.
-- A map over their output is completed too. Returns how many steps it completed. `complete_task()` does this
-- by itself. The function is here for programs written for pgflow.
--
-- Example:
--   select run_id from pgflow.runs where flow_slug = 'greet' \gset
--   select pgflow.cascade_complete_taskless_steps(:'run_id');
create or replace function pgflow.cascade_complete_taskless_steps(run_id uuid)
returns integer
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  step record;
  total integer := 0;
begin
  loop
    select s.flow_slug, s.step_slug, o.step_type into step
    from pgflow.step_states s
    join pgflow.steps o on o.flow_slug = s.flow_slug and o.step_slug = s.step_slug
    where
      s.run_id = cascade_complete_taskless_steps.run_id and s.status = 'created'
      and s.remaining_deps = 0 and s.initial_tasks = 0
      -- A map that has become ready just now may have a condition.
      and s.step_slug not in (select u.step_slug from pgflow.unmet_steps(s.run_id) u)
    order by o.step_index limit 1;
    exit when not found;
    update pgflow.step_states s
    set
      status = 'completed', started_at = q.now, completed_at = q.now, remaining_tasks = 0,
      output = case when step.step_type = 'map' then '[]'::jsonb end
    from (select clock_timestamp() as now) q
    where
      s.run_id = cascade_complete_taskless_steps.run_id and s.step_slug = step.step_slug;
    perform pgflow.count_down(run_id, step.flow_slug, array[step.step_slug]);
    update pgflow.step_states s set initial_tasks = 0
    from pgflow.deps d
    join pgflow.steps o on o.flow_slug = d.flow_slug and o.step_slug = d.step_slug
    where
      d.flow_slug = step.flow_slug and d.dep_slug = step.step_slug and o.step_type = 'map'
      and s.run_id = cascade_complete_taskless_steps.run_id and s.step_slug = d.step_slug
      and s.status = 'created';
    total := total + 1;
  end loop;
  return total;
end
$$;

comment on function pgflow.cascade_complete_taskless_steps is
'Completes the steps of a run that are ready and have no task: maps over an empty list. Returns how many. '
'complete_task() does this by itself.';
