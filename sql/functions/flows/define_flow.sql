-- Public. Defines a whole flow, or compares the definition with the stored flow. Returns one line for
-- each difference in shape: steps, their order, their dependencies, their types, and what skips them. If
-- there is no difference, it sets the options of the flow and its steps to those of the definition. Workers
-- call it when they start. The definition needs `max_attempts`, `base_delay`, `timeout` and
-- `blob_threshold`. `keep_output` and the options of steps may be missing.
--
-- A step may also have what add_step() takes: `step_type`, `start_delay`, `required_input_pattern`,
-- `forbidden_input_pattern`, `when_unmet`, `when_exhausted` and `tolerate`.
--
-- Raises:
--   23502 not_null_violation: the definition has no slug, or lacks an option that it needs.
--   23503 foreign_key_violation: a step depends on a step that is not defined before it.
--   23514 check_violation: a slug or an option is not valid, or a step depends on itself.
--   P0001 raise_exception: a map depends on more than one step.
--   42622 name_too_long: the slug of the flow has more than 47 characters.
--   23505 unique_violation: the slug of another flow differs from this one only by case.
--   42P07 duplicate_table: another application owns the queue of this name.
--
-- Example:
--   select pgflow.define_flow('{
--     "flow_slug": "double",
--     "max_attempts": 3, "base_delay": 5, "timeout": 60, "blob_threshold": 8192,
--     "steps": [{"step_slug": "twice", "deps_slugs": []}]
--   }') as differences;
create or replace function pgflow.define_flow(definition jsonb)
returns text[]
language plpgsql
set search_path = ''
set standard_conforming_strings = on -- pgmq's functions rely on it
as $$
#variable_conflict use_column
declare
  slug text := definition ->> 'flow_slug';
  differences text[];
begin
  perform pg_advisory_xact_lock(hashtextextended('pgflow.define_flow.' || slug, 0));

  if not exists (select from pgflow.flows f where f.flow_slug = slug) then
    perform pgflow.create_flow(slug);
  else
    perform pgflow.refuse_foreign_queue(slug);
  end if;
  perform pgflow.restore_steps(definition);

  differences := pgflow.shape_differences(definition);
  if differences = '{}' then
    perform pgflow.set_options(definition);
  end if;
  return differences;
end
$$;

comment on function pgflow.define_flow is
'Defines a whole flow, or compares the definition with the stored flow. Returns one line for each '
'difference in shape; if there is none, it sets the options.';
