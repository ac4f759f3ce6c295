-- Internal, of maybe_complete_run(), settle_tasks(), start_flows(). Subtracts completed steps from their
-- runs, and notes which runs have blobs. A run without remaining steps is completed, with the outputs of
-- its leaf steps. Returns the flows of the runs that it completed. The caller has locked the runs.
create or replace function pgflow.complete_runs(
  run_ids uuid[],
  completed uuid[] default '{}', -- the run of each completed step
  with_blobs uuid[] default '{}'
)
returns text[]
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  ended record;
begin
  with counted as (
    update pgflow.runs r
    set
      remaining_steps = r.remaining_steps - u.n,
      has_blobs = u.has_blobs,
      status = case when u.ends then 'completed' else r.status end,
      completed_at = case when u.ends then clock_timestamp() end,
      (output, output_blobs_refs) = (
        select
          coalesce(
            jsonb_object_agg(t.step_slug, t.output) filter (where t.output_blob_id is null), '{}'
          ),
          jsonb_object_agg(t.step_slug, t.output_blob_id) filter (where t.output_blob_id is not null)
        from pgflow.step_tasks t
        where
          t.run_id = r.run_id and t.status = 'completed'
          and not exists (
            -- A step that was added after the run started is not in the run.
            select from pgflow.deps d
            join pgflow.step_states s on s.run_id = r.run_id and s.step_slug = d.step_slug
            where d.flow_slug = t.flow_slug and d.dep_slug = t.step_slug
          )
        having u.ends
      )
    from (
      select i.run_id, sum(i.n)::integer as n, bool_or(i.has_blobs) as has_blobs
      from (
        select c, 1, false from unnest(completed) c
        union all select b, 0, true from unnest(with_blobs) b
        union all select a, 0, false from unnest(run_ids) a
      ) as i (run_id, n, has_blobs)
      group by i.run_id
    ) d
    cross join lateral (
      select
        u.ctid, d.n, u.has_blobs or d.has_blobs as has_blobs,
        u.remaining_steps = d.n as ends
      -- A late completion changes nothing of a run that has ended, not even its has_blobs.
      from pgflow.runs u where u.run_id = d.run_id and u.status = 'started' limit 1
    ) u
    where r.ctid = u.ctid and (u.n > 0 or u.ends or r.has_blobs <> u.has_blobs)
    returning r.flow_slug, r.run_id, r.has_blobs, u.ends
  )
  select
    array_agg(c.flow_slug) as flow_slugs,
    array_agg(c.run_id) filter (where c.has_blobs) as with_blobs
  into ended from counted c where c.ends;

  if ended.with_blobs is not null then
    perform pgflow.expire_blobs(ended.with_blobs);
  end if;
  return coalesce(ended.flow_slugs, '{}');
end
$$;
