-- Internal, of settle_tasks(). Returns the given refused places, except those whose task was completed
-- before by the same attempt. Deletes the blobs of the refused outputs, because nothing names them.
create or replace function pgflow.confirm_refusals(
  refused integer[],
  run_ids uuid[],
  step_slugs text[],
  task_indexes integer[],
  attempts integer[],
  output_blob_ids uuid[]
)
returns integer[]
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_custom_plan -- a generic plan locks every day
as $$
declare
  given uuid[] := array(
    select output_blob_ids[i.n] from unnest(refused) as i (n) where output_blob_ids[i.n] is not null
  );
begin
  if given <> '{}' then
    perform pgflow.delete_blobs(array(
      select b.id from pgflow.output_blobs b
      join unnest(refused) as i (n)
        on b.id = output_blob_ids[i.n]
        -- A blob that a step passed on belongs to the step that made it.
        and b.run_id = run_ids[i.n] and b.step_slug = step_slugs[i.n]
        and b.task_index = task_indexes[i.n]
      where
        b.id = any(given)
        and not exists (
          select from pgflow.step_tasks t where t.run_id = b.run_id and t.output_blob_id = b.id
        )
    ));
  end if;

  return array(
    select i.n from unnest(refused) as i (n)
    where (
      select t.status = 'completed' and t.attempts_count = attempts[i.n]
      from pgflow.step_tasks t
      where
        t.run_id = run_ids[i.n] and t.step_slug = step_slugs[i.n]
        and t.task_index = task_indexes[i.n]
    ) is not true
    order by i.n
  );
end
$$;
