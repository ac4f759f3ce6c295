-- Internal, of cancel_runs(), release_tasks(), settle_tasks(). Deletes unfinished blobs that earlier attempts in these
-- runs had begun to write. Only an attempt that failed or was given up leaves such blobs.
create or replace function pgflow.discard_unfinished(run_ids uuid[])
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_custom_plan -- a generic plan locks every day
as $$
declare
  run uuid;
begin
  for run in select distinct r from unnest(run_ids) r loop
    delete from pgflow.output_blobs b
    where
      b.id between pgflow.first_blob_id(run) and pgflow.last_blob_id(run)
      and b.run_id = run and b.sha256 is null
      and not exists (
        select from pgflow.step_tasks t
        where
          t.run_id = run and t.step_slug = b.step_slug and t.task_index = b.task_index
          and t.status = 'queued' and t.started_at is not null
      );
  end loop;
end
$$;
