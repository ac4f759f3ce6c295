-- Internal, of define_flow(). Returns how a definition differs from the stored flow in its steps, their
-- order, their dependencies, their types, and in what skips them.
create or replace function pgflow.shape_differences(definition jsonb)
returns text[]
language sql stable
set search_path = ''
as $$
  with defined as (
    select
      step ->> 'step_slug' as step_slug, n - 1 as step_index,
      coalesce(step ->> 'step_type', 'single') as step_type,
      nullif(step -> 'required_input_pattern', 'null') as required,
      nullif(step -> 'forbidden_input_pattern', 'null') as forbidden,
      coalesce(step ->> 'when_unmet', 'skip') as when_unmet,
      coalesce(step ->> 'when_exhausted', 'fail') as when_exhausted,
      array(select distinct jsonb_array_elements_text(step -> 'deps_slugs') order by 1) as deps
    from jsonb_array_elements(definition -> 'steps') with ordinality as e (step, n)
  ),
  stored as (
    select
      s.step_slug, s.step_index, s.step_type, s.required_input_pattern as required,
      s.forbidden_input_pattern as forbidden, s.when_unmet, s.when_exhausted,
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
        when d.step_type <> s.step_type then format(
          'step "%s" has the type %s, the stored one %s', step_slug, d.step_type, s.step_type
        )
        when d.required is distinct from s.required then format(
          'step "%s" requires %s, the stored one %s',
          step_slug, coalesce(d.required::text, 'nothing'), coalesce(s.required::text, 'nothing')
        )
        when d.forbidden is distinct from s.forbidden then format(
          'step "%s" forbids %s, the stored one %s',
          step_slug, coalesce(d.forbidden::text, 'nothing'), coalesce(s.forbidden::text, 'nothing')
        )
        when d.when_unmet <> s.when_unmet then format(
          'step "%s" has when_unmet %s, the stored one %s', step_slug, d.when_unmet, s.when_unmet
        )
        when d.when_exhausted <> s.when_exhausted then format(
          'step "%s" has when_exhausted %s, the stored one %s',
          step_slug, d.when_exhausted, s.when_exhausted
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
