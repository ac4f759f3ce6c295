-- Counts completed tasks off their steps, completed steps off the steps that wait for them and off
-- their runs.
create or replace function pgflow.count_down(settled pgflow.settled_task[])
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  runs uuid[];
  steps text[];
begin
  with counted as (
    update pgflow.step_states s
    set
      remaining_tasks = s.remaining_tasks - d.n,
      status = case when s.remaining_tasks = d.n then 'completed' else s.status end,
      completed_at = case when s.remaining_tasks = d.n then clock_timestamp() end
    from (
      select t.run_id, t.step_slug, count(*)::integer as n from unnest(settled) t
      where t.status = 'completed' group by t.run_id, t.step_slug
    ) d
    where s.run_id = d.run_id and s.step_slug = d.step_slug
    returning s.run_id, s.step_slug, s.status
  )
  select array_agg(c.run_id), array_agg(c.step_slug) into runs, steps
  from counted c where c.status = 'completed';

  if runs is null then
    return;
  end if;

  update pgflow.step_states s set remaining_deps = s.remaining_deps - d.n
  from (
    select r.run_id, deps.step_slug, count(*)::integer as n
    from unnest(runs, steps) as c (run_id, step_slug)
    join pgflow.runs r on r.run_id = c.run_id
    join pgflow.deps on deps.flow_slug = r.flow_slug and deps.dep_slug = c.step_slug
    group by r.run_id, deps.step_slug
  ) d
  where s.run_id = d.run_id and s.step_slug = d.step_slug;

  update pgflow.runs r set remaining_steps = r.remaining_steps - d.n
  from (select c.run_id, count(*)::integer as n from unnest(runs) as c (run_id) group by c.run_id) d
  where r.run_id = d.run_id;
end
$$;
