-- Internal, of settle_tasks(). Subtracts completed tasks from their steps, and completed steps from the
-- steps that wait for them. Starts each step that waits for no other, except in runs that fail. Returns
-- the completed and the started steps. The caller has locked the runs.
create or replace function pgflow.count_down(
  settled pgflow.settled_task[],
  failing uuid[]
)
returns pgflow.counted_steps
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  done record;
  counted pgflow.counted_steps;
begin
  with counted as (
    update pgflow.step_states s
    set
      remaining_tasks = s.remaining_tasks - d.n,
      status = case when s.remaining_tasks = d.n then 'completed' else s.status end,
      completed_at = case when s.remaining_tasks = d.n then clock_timestamp() end
    from (
      select t.run_id, t.step_slug, count(*)::integer as n, min(t.n) as place from unnest(settled) t
      where t.status = 'completed' group by t.run_id, t.step_slug
    ) d
    cross join lateral (
      select u.ctid from pgflow.step_states u
      where u.run_id = d.run_id and u.step_slug = d.step_slug limit 1
    ) u
    where s.ctid = u.ctid
    returning s.flow_slug, s.run_id, s.step_slug, s.status, d.place
  )
  select
    array_agg(c.flow_slug) as flow_slugs, array_agg(c.run_id) as run_ids,
    array_agg(c.step_slug) as step_slugs, array_agg(c.place) as places
  into done from counted c where c.status = 'completed';
  counted.completed := done.run_ids;

  with counted as (
    update pgflow.step_states s
    set
      remaining_deps = s.remaining_deps - d.n,
      status = case when u.starts then 'started' else s.status end,
      started_at = case when u.starts then clock_timestamp() end
    from (
      select c.run_id, deps.step_slug, count(*)::integer as n, min(c.place) as place
      from unnest(done.flow_slugs, done.run_ids, done.step_slugs, done.places)
        as c (flow_slug, run_id, dep_slug, place)
      join pgflow.deps using (flow_slug, dep_slug)
      group by c.run_id, deps.step_slug
    ) d
    cross join lateral (
      select u.ctid, u.remaining_deps = d.n and d.run_id <> all(failing) as starts
      from pgflow.step_states u
      where u.run_id = d.run_id and u.step_slug = d.step_slug and u.status = 'created'
      limit 1
    ) u
    where s.ctid = u.ctid
    returning s.flow_slug, s.run_id, s.step_slug, d.place, u.starts
  )
  select array_agg(row(c.flow_slug, c.run_id, c.step_slug, c.place)::pgflow.started_step)
  into counted.started from counted c where c.starts;
  return counted;
end
$$;
