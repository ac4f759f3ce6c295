-- Internal, of ensure_flow_compiled(). Defines a flow and its steps as a shape says. Options that it
-- leaves out are the defaults. Raises invalid_parameter_value if the shape has no list of steps.
create or replace function pgflow._create_flow_from_shape(p_flow_slug text, p_shape jsonb)
returns void
language plpgsql
set search_path = ''
set standard_conforming_strings = on -- pgmq's functions rely on it
as $$
declare
  options jsonb := coalesce(p_shape -> 'options', '{}');
  step record;
begin
  if jsonb_typeof(p_shape -> 'steps') is distinct from 'array' then
    raise exception 'the shape of flow "%" has no list "steps"', p_flow_slug
      using errcode = 'invalid_parameter_value';
  end if;
  perform pgflow.create_flow(
    p_flow_slug, (options ->> 'maxAttempts')::integer, (options ->> 'baseDelay')::integer,
    (options ->> 'timeout')::integer
  );
  for step in select * from pgflow.shape_steps(p_shape) s order by s.step_index loop
    perform pgflow.add_step(
      flow_slug => p_flow_slug,
      step_slug => step.slug,
      deps_slugs => step.dependencies,
      max_attempts => (step.options ->> 'maxAttempts')::integer,
      base_delay => (step.options ->> 'baseDelay')::integer,
      timeout => (step.options ->> 'timeout')::integer,
      start_delay => (step.options ->> 'startDelay')::integer,
      step_type => step.step_type,
      required_input_pattern => step.required_input_pattern -> 'value',
      forbidden_input_pattern => step.forbidden_input_pattern -> 'value',
      when_unmet => step.when_unmet,
      when_exhausted => step.when_exhausted
    );
  end loop;
end
$$;
