-- Internal, of _compare_flow_shapes(), _create_flow_from_shape(). Returns the steps of a shape, each with
-- the defaults of what it leaves out. The dependencies are sorted.
create or replace function pgflow.shape_steps(shape jsonb)
returns table (
  step_index integer,
  slug text,
  step_type text,
  dependencies text[],
  when_unmet text,
  when_exhausted text,
  required_input_pattern jsonb,
  forbidden_input_pattern jsonb,
  options jsonb
)
language sql immutable parallel safe
set search_path = ''
as $$
  select
    (e.n - 1)::integer,
    e.step ->> 'slug',
    coalesce(e.step ->> 'stepType', 'single'),
    array(
      select d.slug collate "C"
      from jsonb_array_elements_text(nullif(e.step -> 'dependencies', 'null')) as d (slug) order by 1
    ),
    coalesce(e.step ->> 'whenUnmet', 'skip'),
    coalesce(e.step ->> 'whenExhausted', 'fail'),
    coalesce(nullif(e.step -> 'requiredInputPattern', 'null'), '{"defined": false}'),
    coalesce(nullif(e.step -> 'forbiddenInputPattern', 'null'), '{"defined": false}'),
    coalesce(nullif(e.step -> 'options', 'null'), '{}')
  from jsonb_array_elements(shape -> 'steps') with ordinality as e (step, n)
$$;
