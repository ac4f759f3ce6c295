-- Internal, of define_flow(). Returns how a definition differs from the stored flow in its steps, their
-- order and their dependencies.
create or replace function pgflow.shape_differences(definition jsonb)
returns text[]
language sql stable
set search_path = ''
as $$
  with defined as (
    select
      step ->> 'step_slug' as step_slug, n - 1 as step_index,
      array(select distinct jsonb_array_elements_text(step -> 'deps_slugs') order by 1) as deps
    from jsonb_array_elements(definition -> 'steps') with ordinality as e (step, n)
  ),
  stored as (
    select
      s.step_slug, s.step_index,
      array(
        select d.dep_slug from pgflow.deps d
        where d.flow_slug = s.flow_slug and d.step_slug = s.step_slug order by 1
      ) as deps
    from pgflow.steps s where s.flow_slug = definition ->> 'flow_slug'
  )
  select coalesce(array_agg(difference order by step_index), '{}')
  from (
    select
      coalesce(d.step_index, s.step_index) as step_index,
      case
        when s.step_slug is null then format('step "%s" is not stored', step_slug)
        when d.step_slug is null then format('step "%s" is stored, but not defined', step_slug)
        when d.deps <> s.deps then format(
          'step "%s" depends on {%s}, the stored one on {%s}',
          step_slug, array_to_string(d.deps, ', '), array_to_string(s.deps, ', ')
        )
        when d.step_index <> s.step_index then format(
          'step "%s" is number %s, the stored one number %s',
          step_slug, d.step_index + 1, s.step_index + 1
        )
      end as difference
    from defined d full join stored s using (step_slug)
  ) compared
  where difference is not null
$$;
