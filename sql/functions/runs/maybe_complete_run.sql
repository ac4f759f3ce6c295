-- Public, as in pgflow. Completes a run that has no remaining steps; changes nothing otherwise, or if
-- there is no such run. The run's output has the outputs of the steps that no step depends on, without those
-- that were skipped. `complete_task()` does this by itself. The function is here for programs written
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
        case when count(*) > 0 or r.is_plain then coalesce(
          jsonb_object_agg(s.step_slug, coalesce(v.value, 'null')) filter (where v.blob_id is null), '{}'
        ) end,
        jsonb_object_agg(s.step_slug, v.blob_id) filter (where v.blob_id is not null)
      from pgflow.step_states s
      cross join lateral pgflow.step_value(s.run_id, s.step_slug) v
      where
        s.run_id = r.run_id and s.status = 'completed'
        and not exists (
          select from pgflow.deps d
          join pgflow.step_states o on o.run_id = r.run_id and o.step_slug = d.step_slug
          where d.flow_slug = s.flow_slug and d.dep_slug = s.step_slug
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
