-- Worker. Begins a blob that is written in chunks. Until it is finished, its sha256 is null and it is
-- deleted with its attempt. Returns false if `attempt` is not the task's current one, or if the task is
-- settled. A null `attempt` stands for any.
--
-- For the blob of an input (step 'run') no task is looked up: its run is inserted later, in the same
-- transaction.
create or replace function pgflow.open_blob(
  id uuid,
  run_id uuid,
  step_slug text,
  task_index integer,
  attempt integer,
  kind text,
  media_type text,
  codec text,
  key_id text,
  data_key bytea,
  store text,
  chunk_size integer,
  wait_for_disk boolean default true
)
returns boolean
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_custom_plan -- a generic plan locks every day
as $$
#variable_conflict use_column
begin
  if not wait_for_disk then
    perform set_config('synchronous_commit', 'off', true);
  end if;
  update pgflow.runs r set has_blobs = true
  where r.run_id = open_blob.run_id and not r.has_blobs;

  if open_blob.step_slug <> 'run' then
    -- Either the session that settles the task sees this blob, or we see that the task is settled.
    perform from pgflow.step_tasks t
    where
      t.run_id = open_blob.run_id and t.step_slug = open_blob.step_slug
      and t.task_index = open_blob.task_index and t.status = 'queued'
      and t.attempts_count = coalesce(open_blob.attempt, t.attempts_count)
    for share;
    if not found then
      return false;
    end if;
  end if;

  insert into pgflow.output_blobs (
    id, run_id, step_slug, task_index, kind, media_type, codec, key_id, data_key, store, chunk_size
  )
  values (
    open_blob.id, open_blob.run_id, open_blob.step_slug, open_blob.task_index, open_blob.kind,
    open_blob.media_type, open_blob.codec, open_blob.key_id, open_blob.data_key, open_blob.store, open_blob.chunk_size
  )
  on conflict do nothing;
  return true;
end
$$;
