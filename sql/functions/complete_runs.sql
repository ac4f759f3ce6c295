-- Completes those of these runs that have no steps left, with the outputs of their leaf steps.
-- Returns their flows. The caller holds the runs.
create or replace function pgflow.complete_runs(run_ids uuid[])
returns setof text
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
  return query
  update pgflow.runs r
  set
    status = 'completed', completed_at = clock_timestamp(),
    output = coalesce(leaves.outputs, '{}'), output_blobs_refs = leaves.refs
  from unnest(complete_runs.run_ids) as i (run_id)
  cross join lateral (
    select
      jsonb_object_agg(t.step_slug, t.output) filter (where t.output_blob_id is null) as outputs,
      jsonb_object_agg(t.step_slug, t.output_blob_id) filter (where t.output_blob_id is not null)
      as refs
    from pgflow.step_tasks t
    where
      t.run_id = i.run_id and t.status = 'completed'
      and not exists (
        -- A step that was added after the start of the run is not in it.
        select from pgflow.deps d
        join pgflow.step_states s on s.run_id = t.run_id and s.step_slug = d.step_slug
        where d.flow_slug = t.flow_slug and d.dep_slug = t.step_slug
      )
  ) leaves
  where r.run_id = i.run_id and r.status = 'started' and r.remaining_steps = 0
  returning r.flow_slug;
end
$$;
