-- Internal, of complete_task(). Fails a task, its step and its run because a map goes over the output,
-- which is no list. The task keeps the output. The messages of all tasks of the run are archived. The
-- caller has locked the run.
create or replace function pgflow.refuse_type(
  run_id uuid,
  step_slug text,
  map_slug text,
  output jsonb
)
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  type text := coalesce(jsonb_typeof(refuse_type.output), 'null');
  blob_id uuid := pgflow.store_large_output(run_id, step_slug, 0, refuse_type.output);
begin
  update pgflow.runs r
  set status = 'failed', failed_at = clock_timestamp(), has_blobs = r.has_blobs or blob_id is not null
  where r.run_id = refuse_type.run_id;
  update pgflow.step_states s
  set
    status = 'failed', failed_at = clock_timestamp(),
    error_message = format(
      '[TYPE_VIOLATION] Map step %s expects array input but dependency %s produced %s',
      map_slug, refuse_type.step_slug, type
    )
  where s.run_id = refuse_type.run_id and s.step_slug = refuse_type.step_slug;
  update pgflow.step_states s set status = 'cancelled'
  where s.run_id = refuse_type.run_id and s.status = 'started';
  update pgflow.step_tasks t
  set
    status = 'failed', failed_at = clock_timestamp(), output_blob_id = blob_id,
    output = case when blob_id is null then refuse_type.output end,
    error_message = format('[TYPE_VIOLATION] Produced %s instead of array', type)
  where
    t.run_id = refuse_type.run_id and t.step_slug = refuse_type.step_slug and t.task_index = 0;
  perform pgflow._archive_task_message(run_id, step_slug, 0);
  perform pgflow.settle_messages(array(
    select t from pgflow.end_tasks(array[run_id], null, 'cancelled') t
  ));
  perform pgflow.expire_blobs(array[run_id]);
end
$$;
