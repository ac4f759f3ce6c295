-- Public. Adds a step to a flow, and returns its row. The step waits until all steps in `deps_slugs` are
-- completed. If the flow has a step of this slug, the stored row is returned and nothing is changed. A
-- null option stands for the flow's. Runs that have started already do not get the new step.
--
-- Raises:
--   23503 foreign_key_violation: the flow, or a step in `deps_slugs`, does not exist.
--   23514 check_violation: the slug or an option is not valid, or the step depends on itself.
--
-- Example:
--   select step_slug, step_index, deps_count from pgflow.add_step('greet', 'hello');
--   select step_slug, step_index, deps_count from pgflow.add_step('greet', 'shout', array['hello']);
create or replace function pgflow.add_step(
  flow_slug text,
  step_slug text,
  deps_slugs text[] default '{}',
  max_attempts integer default null,
  base_delay integer default null,
  timeout integer default null
)
returns pgflow.steps
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  -- A dependency that is named twice counts once.
  deps text[] := array(select distinct unnest(add_step.deps_slugs));
  step pgflow.steps;
begin
  -- One session at a time, or two steps would get the same index.
  perform from pgflow.flows f where f.flow_slug = add_step.flow_slug for no key update;

  insert into pgflow.steps (
    flow_slug, step_slug, step_index, deps_count, opt_max_attempts, opt_base_delay, opt_timeout
  )
  select
    add_step.flow_slug, add_step.step_slug, coalesce(max(s.step_index) + 1, 0), cardinality(deps),
    add_step.max_attempts, add_step.base_delay, add_step.timeout
  from pgflow.steps s where s.flow_slug = add_step.flow_slug
  on conflict (flow_slug, step_slug) do nothing;

  if found then
    insert into pgflow.deps (flow_slug, dep_slug, step_slug)
    select add_step.flow_slug, dep_slug, add_step.step_slug from unnest(deps) as d (dep_slug);
  end if;

  select * into strict step from pgflow.steps s
  where s.flow_slug = add_step.flow_slug and s.step_slug = add_step.step_slug;
  return step;
end
$$;

comment on function pgflow.add_step is
'Adds a step to a flow, or returns the stored step. It waits until all steps in deps_slugs are '
'completed. A null option stands for the flow''s.';
