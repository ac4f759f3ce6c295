-- Public. Adds a step that waits for the steps in deps_slugs. A step that exists is returned as it is.
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
  -- A dependency named twice is still one to wait for.
  deps text[] := array(select distinct unnest(add_step.deps_slugs));
  step pgflow.steps;
begin
  -- One definer at a time, or two steps would get the same index.
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
'Adds a step to a flow, or returns the step that is stored. It starts when all steps in deps_slugs are '
'completed. Options that are null are those of the flow.';
