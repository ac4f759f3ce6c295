-- Internal, of ensure_flow_compiled(). Returns one line for each difference between two shapes, which are
-- compared step by step in their order.
create or replace function pgflow._compare_flow_shapes(p_local jsonb, p_db jsonb)
returns text[]
language sql immutable parallel safe
set search_path = ''
as $$
  select array(
    select format('Step count differs: %s vs %s', c.a, c.b)
    from (
      select
        (select count(*) from pgflow.shape_steps(p_local)) as a,
        (select count(*) from pgflow.shape_steps(p_db)) as b
    ) c
    where c.a <> c.b
  ) || array(
    select format('Step at index %s: %s', step_index, d.difference)
    from pgflow.shape_steps(p_local) a
    full join pgflow.shape_steps(p_db) b using (step_index)
    cross join lateral (
      values
      (
        1,
        a.slug is null and b.slug is not null,
        format('missing in first shape (second has ''%s'')', b.slug)
      ),
      (
        2,
        b.slug is null and a.slug is not null,
        format('missing in second shape (first has ''%s'')', a.slug)
      ),
      (3, a.slug <> b.slug, format('slug differs ''%s'' vs ''%s''', a.slug, b.slug)),
      (4, a.step_type <> b.step_type, format('type differs ''%s'' vs ''%s''', a.step_type, b.step_type)),
      (
        5,
        a.dependencies <> b.dependencies,
        format(
          'dependencies differ [%s] vs [%s]',
          array_to_string(a.dependencies, ', '), array_to_string(b.dependencies, ', ')
        )
      ),
      (
        6,
        a.when_unmet <> b.when_unmet,
        format('whenUnmet differs ''%s'' vs ''%s''', a.when_unmet, b.when_unmet)
      ),
      (
        7,
        a.when_exhausted <> b.when_exhausted,
        format('whenExhausted differs ''%s'' vs ''%s''', a.when_exhausted, b.when_exhausted)
      ),
      (
        8,
        a.required_input_pattern <> b.required_input_pattern,
        format(
          'requiredInputPattern differs ''%s'' vs ''%s''', a.required_input_pattern, b.required_input_pattern
        )
      ),
      (
        9,
        a.forbidden_input_pattern <> b.forbidden_input_pattern,
        format(
          'forbiddenInputPattern differs ''%s'' vs ''%s''',
          a.forbidden_input_pattern, b.forbidden_input_pattern
        )
      )
    ) as d (n, differs, difference)
    where d.differs
    order by step_index, d.n
  )
$$;
