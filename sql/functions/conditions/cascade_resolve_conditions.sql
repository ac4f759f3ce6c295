-- Public, as in pgflow. Looks at the conditions of the steps of a run that wait for no other step, and does
-- what `when_unmet` says for those that are not met: skips the step, skips it with all that depends on it, or
-- fails the run. Returns false if the run has failed. `complete_task()` does this by itself. The function is
-- here for programs written for pgflow.
--
-- Example:
--   select run_id from pgflow.runs where flow_slug = 'greet' \gset
--   select pgflow.cascade_resolve_conditions(:'run_id');
create or replace function pgflow.cascade_resolve_conditions(run_id uuid)
returns boolean
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  unmet record;
begin
  perform from pgflow.runs r
  where r.run_id = cascade_resolve_conditions.run_id and r.status = 'started' for no key update;
  if not found then
    return not exists (
      select from pgflow.runs r
      where r.run_id = cascade_resolve_conditions.run_id and r.status = 'failed'
    );
  end if;
  loop
    select
      array_agg(u.step_slug) as slugs,
      array_agg(u.step_slug) filter (where u.is_met is null) as unknown,
      array_agg(u.step_slug) filter (where u.when_unmet = 'fail') as failing,
      array_agg(u.step_slug) filter (where u.when_unmet = 'skip') as skipped,
      array_agg(u.step_slug) filter (where u.when_unmet = 'skip-cascade') as cascading
    into unmet from pgflow.unmet_steps(run_id) u;
    exit when unmet.slugs is null;
    if unmet.unknown is not null or unmet.failing is not null then
      perform pgflow.fail_step(
        run_id, (coalesce(unmet.unknown, unmet.failing))[1],
        case when unmet.unknown is null then 'Condition not met'
          else 'the condition cannot be looked at: a value that it names is a blob that SQL cannot read' end
      );
      return false;
    end if;
    perform pgflow.skip_steps(run_id, unmet.skipped, 'condition_unmet', null);
    perform pgflow._cascade_force_skip_steps(run_id, c.slug, 'condition_unmet')
    from unnest(unmet.cascading) as c (slug);
  end loop;
  return true;
end
$$;

comment on function pgflow.cascade_resolve_conditions is
'Skips the steps of a run whose conditions are not met, or fails the run. Returns false if it has failed. '
'complete_task() does this by itself.';
