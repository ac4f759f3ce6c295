-- Internal, of cancel_runs(), fail_runs(), maybe_complete_run(), refuse_type(), settle_tasks(). Notes until when the blobs
-- of these runs are kept. The runs have just ended.
--
-- A blob that is the output of several steps is kept as long as the longest of them asks for. If no step
-- asks for a time, nothing is written.
create or replace function pgflow.expire_blobs(run_ids uuid[])
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_custom_plan -- a generic plan locks every day
as $$
declare
  ids uuid[];
  runs uuid[];
  keeps integer[];
begin
  if not exists (
    select from pgflow.runs r join pgflow.flows f using (flow_slug)
    where
      r.run_id = any(run_ids) and r.has_blobs
      and (
        f.opt_keep_output is not null
        or exists (
          select from pgflow.steps s
          where s.flow_slug = f.flow_slug and s.opt_keep_output is not null
        )
      )
  ) then
    return;
  end if;

  -- Collect the ids first: only a look-up by known ids leaves the other days alone.
  select array_agg(k.id), array_agg(k.run_id), array_agg(k.seconds) into ids, runs, keeps
  from (
    select named.id, named.run_id, max(named.seconds) as seconds
    from (
      select r.input_blob_id as id, r.run_id, f.opt_keep_output as seconds
      from pgflow.runs r join pgflow.flows f using (flow_slug) where r.run_id = any(run_ids)
      union all
      select t.output_blob_id, t.run_id, coalesce(s.opt_keep_output, f.opt_keep_output)
      from pgflow.step_tasks t
      join pgflow.steps s using (flow_slug, step_slug)
      join pgflow.flows f using (flow_slug)
      where t.run_id = any(run_ids)
      union all
      select m.output_blob_id, m.run_id, coalesce(s.opt_keep_output, f.opt_keep_output)
      from pgflow.step_states m -- of maps
      join pgflow.steps s using (flow_slug, step_slug)
      join pgflow.flows f using (flow_slug)
      where m.run_id = any(run_ids) and m.output_blob_id is not null
    ) named
    where named.id is not null
    group by named.id, named.run_id having count(*) = count(named.seconds)
  ) k;

  update pgflow.output_blobs b
  set expires_at = clock_timestamp() + make_interval(secs => k.seconds)
  -- A run may name a blob of another run, whose time it must not change.
  from unnest(ids, runs, keeps) as k (id, run_id, seconds)
  where b.id = any(ids) and b.id = k.id and b.run_id = k.run_id;
end
$$;
