-- Public. Adds a step to a flow, and returns its row. The step waits until all steps in `deps_slugs` are
-- completed. If the flow has a step of this slug, the stored row is returned and nothing is changed. A
-- null option stands for the flow's. Runs that have started already do not get the new step.
--
-- A step of the type 'map' has a task for each element of a list: of the output of its dependency, or of the
-- run's input if it has none. `tolerate` is the share of its elements that may be lost, from 0 to 1.
-- `start_delay` is in seconds. A step runs only if its input contains the required pattern and does not
-- contain the forbidden one; `when_unmet` says what follows otherwise, and `when_exhausted` what follows when
-- no attempt is left: 'fail', 'skip' or 'skip-cascade'.
--
-- Raises:
--   23503 foreign_key_violation: the flow, or a step in `deps_slugs`, does not exist.
--   23514 check_violation: the slug or an option is not valid, or the step depends on itself.
--   P0001 raise_exception: a map depends on more than one step.
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
  timeout integer default null,
  start_delay integer default null,
  step_type text default 'single',
  required_input_pattern jsonb default null,
  forbidden_input_pattern jsonb default null,
  when_unmet text default 'skip',
  when_exhausted text default 'fail',
  tolerate real default null
)
returns pgflow.steps
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  -- A dependency that is named twice counts once.
  deps text[] := array(select distinct unnest(add_step.deps_slugs));
  plain boolean;
  step pgflow.steps;
begin
  if add_step.step_type = 'map' and cardinality(deps) > 1 then
    raise exception 'Map step "%" can have at most one dependency, but % were provided: %',
      add_step.step_slug, cardinality(deps), array_to_string(add_step.deps_slugs, ', ');
  end if;
  -- One session at a time, or two steps would get the same index.
  perform from pgflow.flows f where f.flow_slug = add_step.flow_slug for no key update;
  plain := pgflow.is_plain(
      add_step.step_type, add_step.start_delay, add_step.required_input_pattern,
      add_step.forbidden_input_pattern, add_step.when_exhausted
    )
    and not exists (
      select from pgflow.steps s
      where s.flow_slug = add_step.flow_slug and s.step_slug = any(deps) and not s.is_plain
    );

  insert into pgflow.steps (
    flow_slug, step_slug, step_index, deps_count, opt_max_attempts, opt_base_delay, opt_timeout,
    opt_start_delay, step_type, required_input_pattern, forbidden_input_pattern, when_unmet,
    when_exhausted, opt_tolerate, is_plain
  )
  select
    add_step.flow_slug, add_step.step_slug, coalesce(max(s.step_index) + 1, 0), cardinality(deps),
    add_step.max_attempts, add_step.base_delay, add_step.timeout, add_step.start_delay,
    coalesce(add_step.step_type, 'single'), add_step.required_input_pattern,
    add_step.forbidden_input_pattern, coalesce(add_step.when_unmet, 'skip'),
    coalesce(add_step.when_exhausted, 'fail'), add_step.tolerate, plain
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
