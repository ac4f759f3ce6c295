-- Public, as in pgflow. Completes a run that has no remaining steps; changes nothing otherwise, or if
-- there is no such run. `complete_task()` does this by itself. The function is here for programs written
-- for pgflow.
--
-- Example:
--   select run_id from pgflow.runs where flow_slug = 'greet' \gset
--   select pgflow.maybe_complete_run(:'run_id');
create or replace function pgflow.maybe_complete_run(run_id uuid)
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  perform from pgflow.runs r where r.run_id = maybe_complete_run.run_id for no key update;
  update pgflow.runs r
  set
    status = 'completed', completed_at = clock_timestamp(),
    (output, output_blobs_refs) = (
      select
        coalesce(jsonb_object_agg(t.step_slug, t.output) filter (where t.output_blob_id is null), '{}'),
        jsonb_object_agg(t.step_slug, t.output_blob_id) filter (where t.output_blob_id is not null)
      from pgflow.step_tasks t
      where
        t.run_id = r.run_id and t.status = 'completed'
        and not exists (
          select from pgflow.deps d
          join pgflow.step_states s on s.run_id = r.run_id and s.step_slug = d.step_slug
          where d.flow_slug = t.flow_slug and d.dep_slug = t.step_slug
        )
    )
  where
    r.run_id = maybe_complete_run.run_id and r.status = 'started' and r.remaining_steps = 0;
  if found then
    perform pgflow.expire_blobs(array[maybe_complete_run.run_id]);
  end if;
end
$$;

comment on function pgflow.maybe_complete_run is
'Completes a run that has no remaining steps. complete_task() does this by itself.';
