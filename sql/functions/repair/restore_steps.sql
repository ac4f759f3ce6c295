-- Internal, of define_flow(). Adds the steps of a definition to a flow that has no steps; set_options() sets
-- their options. Adds the dependencies of each step that has lost all of its own.
--
-- A flow without steps is new. Otherwise a table was emptied by hand.
create or replace function pgflow.restore_steps(definition jsonb)
returns void
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  slug text := definition ->> 'flow_slug';
begin
  if not exists (select from pgflow.steps s where s.flow_slug = slug) then
    perform pgflow.add_step(
      slug, d.step ->> 'step_slug', array(select jsonb_array_elements_text(d.step -> 'deps_slugs')),
      step_type => d.step ->> 'step_type',
      required_input_pattern => nullif(d.step -> 'required_input_pattern', 'null'),
      forbidden_input_pattern => nullif(d.step -> 'forbidden_input_pattern', 'null'),
      when_unmet => d.step ->> 'when_unmet', when_exhausted => d.step ->> 'when_exhausted'
    )
    from (
      select step from jsonb_array_elements(definition -> 'steps') with ordinality as e (step, n)
      order by n
    ) d;
    return;
  end if;

  insert into pgflow.deps (flow_slug, dep_slug, step_slug)
  select slug, dep.dep_slug, s.step_slug
  from pgflow.steps s
  join jsonb_array_elements(definition -> 'steps') d on d ->> 'step_slug' = s.step_slug
  cross join lateral (
    select distinct jsonb_array_elements_text(d -> 'deps_slugs') as dep_slug
  ) dep
  where
    s.flow_slug = slug
    and not exists (
      select from pgflow.deps e where e.flow_slug = slug and e.step_slug = s.step_slug
    )
    and s.deps_count = (
      select count(distinct e) from jsonb_array_elements_text(d -> 'deps_slugs') e
    )
    and exists (
      select from pgflow.steps o where o.flow_slug = slug and o.step_slug = dep.dep_slug
    );
end
$$;
