-- Public, as in pgflow. Returns a run and the states of its steps as {"run": …, "steps": […]}, or null for
-- an unknown id. The steps are in the order of their definition.
--
-- Example:
--   select jsonb_pretty(pgflow.get_run_with_states(run_id))
--   from pgflow.start_flow('greet', '"World"');
create or replace function pgflow.get_run_with_states(run_id uuid)
returns jsonb
language sql stable
set search_path = ''
set enable_seqscan = off
as $$
  select jsonb_build_object(
    'run', to_jsonb(r),
    'steps', coalesce(
      (
        select jsonb_agg(to_jsonb(s) order by d.step_index)
        from pgflow.step_states s
        join pgflow.steps d on d.flow_slug = s.flow_slug and d.step_slug = s.step_slug
        where s.run_id = r.run_id
      ),
      '[]'
    )
  )
  from pgflow.runs r where r.run_id = get_run_with_states.run_id
$$;

comment on function pgflow.get_run_with_states is
'Returns a run and the states of its steps, in the order of their definition: {"run": ..., "steps": [...]}. '
'Null for an unknown id.';
