-- Public, as in pgflow. Skips a step of a run and all steps that depend on it, directly or not, unless they
-- have ended. Their tasks are skipped, and the messages archived. Returns how many steps it skipped.
--
-- Raises:
--   P0001 raise_exception: there is no such run.
--
-- Example:
--   select run_id from pgflow.runs where flow_slug = 'greet' \gset
--   select pgflow._cascade_force_skip_steps(:'run_id', 'hello', 'condition_unmet');
create or replace function pgflow._cascade_force_skip_steps(
  run_id uuid,
  step_slug text,
  skip_reason text
)
returns integer
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  flow text;
begin
  select r.flow_slug into flow from pgflow.runs r
  where r.run_id = _cascade_force_skip_steps.run_id for no key update;
  if not found then
    raise exception 'Run not found: %', _cascade_force_skip_steps.run_id;
  end if;
  return pgflow.skip_steps(
    run_id, pgflow.steps_below(flow, step_slug), skip_reason, null, step_slug
  );
end
$$;

comment on function pgflow._cascade_force_skip_steps is
'Skips a step of a run and all steps that depend on it, unless they have ended. Returns how many it skipped.';
