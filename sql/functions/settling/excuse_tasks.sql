-- Internal, of settle_tasks(). Deals with tasks that failed for good and whose runs go on nevertheless: the
-- element of a map that tolerates the loss is lost; a step whose when_exhausted is not 'fail' is skipped. The
-- caller has locked the runs. Returns the other runs, which have to fail.
create or replace function pgflow.excuse_tasks(failed pgflow.settled_task[])
returns uuid[]
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  step record;
  failing uuid[] := array[]::uuid[];
begin
  for step in
    select
      f.flow_slug, f.run_id, f.step_slug, o.when_exhausted, f.n,
      -- As a decimal: the binary number nearest to 0.7 is less than that.
      coalesce(s.lost_tasks, 0) + f.n <= o.opt_tolerate::numeric * s.initial_tasks as tolerates,
      s.remaining_tasks = f.n as completes
    from (
      select t.flow_slug, t.run_id, t.step_slug, count(*)::integer as n, min(t.n) as place
      from unnest(failed) t where t.status = 'failed'
      group by t.flow_slug, t.run_id, t.step_slug
    ) f
    join pgflow.steps o on o.flow_slug = f.flow_slug and o.step_slug = f.step_slug
    -- The limit keeps this an index look-up.
    cross join lateral (
      select s.lost_tasks, s.initial_tasks, s.remaining_tasks from pgflow.step_states s
      where s.run_id = f.run_id and s.step_slug = f.step_slug limit 1
    ) s
    order by f.place
  loop
    if step.tolerates then
      update pgflow.step_states s
      set
        lost_tasks = coalesce(s.lost_tasks, 0) + step.n, remaining_tasks = s.remaining_tasks - step.n,
        status = case when step.completes then 'completed' else s.status end,
        completed_at = case when step.completes then clock_timestamp() end
      where s.run_id = step.run_id and s.step_slug = step.step_slug;
      if step.completes then
        perform pgflow.count_down(step.run_id, step.flow_slug, array[step.step_slug]);
      end if;
    elsif step.when_exhausted = 'fail' then
      failing := failing || step.run_id;
    else
      perform pgflow.skip_steps(
        step.run_id,
        case when step.when_exhausted = 'skip' then array[step.step_slug]
          else pgflow.steps_below(step.flow_slug, step.step_slug) end,
        'handler_failed', pgflow.last_error(step.run_id, step.step_slug), step.step_slug
      );
    end if;
  end loop;
  return failing;
end
$$;
