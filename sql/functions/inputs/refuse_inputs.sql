-- Internal, of start_flows(). Checks that each of these blobs is the finished input of the run at the
-- same place. A null stands for no blob. Raises invalid_parameter_value for the first that is not.
create or replace function pgflow.refuse_inputs(run_ids uuid[], blob_ids uuid[])
returns void
language plpgsql stable
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_custom_plan -- a generic plan locks every day
as $$
#variable_conflict use_column
declare
  refused uuid;
begin
  select i.blob_id into refused
  from unnest(refuse_inputs.run_ids, refuse_inputs.blob_ids) as i (run_id, blob_id)
  where
    i.blob_id is not null
    and not exists (
      select from pgflow.output_blobs b
      where
        b.id = any(refuse_inputs.blob_ids) and b.id = i.blob_id and b.run_id = i.run_id
        and b.step_slug = 'run' and b.sha256 is not null
    )
  limit 1;
  if found then
    raise exception 'blob % is not the input of this run: store it for the run first', refused
      using errcode = 'invalid_parameter_value';
  end if;
end
$$;
