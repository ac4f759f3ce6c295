-- Internal, of cascade_complete_taskless_steps(), cascade_resolve_conditions(). Returns the steps of a run that are ready and whose condition is
-- not met, in the order of their definition. `is_met` is null if a value cannot be read.
create or replace function pgflow.unmet_steps(run_id uuid)
returns table (step_slug text, when_unmet text, is_met boolean)
language sql stable
set search_path = ''
set enable_seqscan = off
as $$
  select c.step_slug, c.when_unmet, c.is_met
  from (
    select
      o.step_slug, o.when_unmet, o.step_index,
      (
        o.required_input_pattern is null
        or pgflow.contains_pattern(s.run_id, s.step_slug, o.deps_count = 0, o.required_input_pattern, 'required')
      )
      and (
        o.forbidden_input_pattern is null
        or not pgflow.contains_pattern(s.run_id, s.step_slug, o.deps_count = 0, o.forbidden_input_pattern, 'forbidden')
      ) as is_met
    from pgflow.step_states s
    join pgflow.steps o on o.flow_slug = s.flow_slug and o.step_slug = s.step_slug
    where
      s.run_id = unmet_steps.run_id and s.status = 'created' and s.remaining_deps = 0
      and (o.required_input_pattern is not null or o.forbidden_input_pattern is not null)
  ) c
  where c.is_met is not true
  order by c.step_index
$$;
