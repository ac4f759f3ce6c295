-- Internal, of _cascade_force_skip_steps(), cascade_resolve_conditions(), excuse_tasks(). Skips these steps of
-- a run, with their tasks, whose messages are archived. The steps that depend on them wait for them no longer.
-- The caller has locked the run. Returns how many steps it skipped.
create or replace function pgflow.skip_steps(
  run_id uuid,
  step_slugs text[],
  skip_reason text,
  error_message text,
  cause text default null -- of a cascade: the other steps are skipped because they depend on it
)
returns integer
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  skipped record;
begin
  with skipped as (
    update pgflow.step_states s
    set
      status = 'skipped', skipped_at = clock_timestamp(), remaining_tasks = null,
      error_message = case when s.step_slug = coalesce(cause, s.step_slug) then skip_steps.error_message end,
      skip_reason = case when s.step_slug = coalesce(cause, s.step_slug) then skip_steps.skip_reason
        else 'dependency_skipped' end
    where
      s.run_id = skip_steps.run_id and s.step_slug = any(step_slugs)
      and s.status in ('created', 'started')
    returning s.flow_slug, s.step_slug
  )
  select min(k.flow_slug) as flow_slug, array_agg(k.step_slug) as slugs, count(*)::integer as n
  into skipped from skipped k;
  if skipped.n = 0 then
    return 0;
  end if;

  perform pgflow.settle_messages(array(
    select t from pgflow.end_tasks(array[skip_steps.run_id], skipped.slugs, 'skipped') t
  ));
  perform pgflow.count_down(run_id, skipped.flow_slug, skipped.slugs);
  -- A map over the output of a skipped step has no task.
  update pgflow.step_states s set initial_tasks = 0
  from pgflow.deps d
  join pgflow.steps o on o.flow_slug = d.flow_slug and o.step_slug = d.step_slug
  where
    d.flow_slug = skipped.flow_slug and d.dep_slug = any(skipped.slugs) and o.step_type = 'map'
    and s.run_id = skip_steps.run_id and s.step_slug = d.step_slug and s.status = 'created';
  return skipped.n;
end
$$;
