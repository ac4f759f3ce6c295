-- Internal, of complete_open_task(), refuse_type(). Stores the output of a task as a blob if its text is
-- longer than the step's threshold. Returns the id of the blob, or null if the output is short. Raises
-- no_data_found if there is no such task.
create or replace function pgflow.store_large_output(
  run_id uuid,
  step_slug text,
  task_index integer,
  output jsonb
)
returns uuid
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  threshold integer := pgflow.task_blob_threshold(run_id, step_slug, task_index);
  content bytea := convert_to(store_large_output.output::text, 'UTF8');
  blob_id uuid;
begin
  if length(content) > threshold then
    blob_id := pgflow.new_blob_id(run_id);
    perform pgflow.insert_json_blob(blob_id, run_id, step_slug, task_index, content);
  end if;
  return blob_id;
end
$$;
