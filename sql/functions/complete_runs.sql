-- Completes those of these runs that have no steps left, with the outputs of their leaf steps.
-- Returns their flows. The caller holds the runs.
create or replace function pgflow.complete_runs(run_ids uuid[])
returns setof text
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  completed uuid[];
  flows text[];
begin
  with ended as (
    update pgflow.runs r
    set
      status = 'completed', completed_at = clock_timestamp(),
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
            -- A step that was added after the start of the run is not in it.
            select from pgflow.deps d
            join pgflow.step_states s on s.run_id = r.run_id and s.step_slug = d.step_slug
            where d.flow_slug = t.flow_slug and d.dep_slug = t.step_slug
          )
      )
    where
      r.run_id = any(complete_runs.run_ids) and r.status = 'started' and r.remaining_steps = 0
    returning r.run_id, r.flow_slug
  )
  select array_agg(e.run_id), array_agg(e.flow_slug) into completed, flows from ended e;
  if completed is not null then
    perform pgflow.expire_blobs(completed);
  end if;
  return query select unnest(flows);
end
$$;
