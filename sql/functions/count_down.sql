-- Counts completed tasks off their steps, completed steps off the steps that wait for them and off
-- their runs, and notes which of these have blobs. The caller holds the runs.
create or replace function pgflow.count_down(settled pgflow.settled_task[], blob_runs uuid[])
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
declare
  done record;
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
    cross join lateral (
      select u.ctid from pgflow.step_states u
      where u.run_id = d.run_id and u.step_slug = d.step_slug limit 1
    ) u
    where s.ctid = u.ctid
    returning s.flow_slug, s.run_id, s.step_slug, s.status
  )
  select
    array_agg(c.flow_slug) as flow_slugs, array_agg(c.run_id) as run_ids,
    array_agg(c.step_slug) as step_slugs
  into done from counted c where c.status = 'completed';

  if done.run_ids is null and blob_runs = '{}' then
    return;
  end if;

  update pgflow.step_states s set remaining_deps = s.remaining_deps - d.n
  from (
    select c.run_id, deps.step_slug, count(*)::integer as n
    from unnest(done.flow_slugs, done.run_ids, done.step_slugs) as c (flow_slug, run_id, dep_slug)
    join pgflow.deps using (flow_slug, dep_slug)
    group by c.run_id, deps.step_slug
  ) d
  cross join lateral (
    select u.ctid from pgflow.step_states u
    where u.run_id = d.run_id and u.step_slug = d.step_slug limit 1
  ) u
  where s.ctid = u.ctid;

  update pgflow.runs r
  set
    remaining_steps =
      r.remaining_steps - coalesce(cardinality(array_positions(done.run_ids, r.run_id)), 0),
    has_blobs = r.has_blobs or r.run_id = any(blob_runs)
  where r.run_id = any(done.run_ids || blob_runs);
end
$$;
