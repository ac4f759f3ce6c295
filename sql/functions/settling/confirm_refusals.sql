-- Internal, of settle_tasks(). Of the places refused by settle_tasks(), returns those that stay refused:
-- not the ones whose very attempt completed the task before. The blobs of the refused go, since nothing
-- names them.
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
set plan_cache_mode = force_custom_plan -- a plan for any id locks all days
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
        -- A blob that was passed on is its own step's.
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
