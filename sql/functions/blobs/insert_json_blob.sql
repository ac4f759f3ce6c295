-- Internal, of start_flows(), store_large_output(). Stores JSON as a blob that SQL can read back: not
-- compressed, not sealed.
create or replace function pgflow.insert_json_blob(
  id uuid,
  run_id uuid,
  step_slug text,
  task_index integer,
  content bytea
)
returns void
language sql
set search_path = ''
as $$
  insert into pgflow.output_blobs (
    id, run_id, step_slug, task_index, kind, codec, content, raw_size, stored_size, sha256, preview
  )
  values (
    id, run_id, step_slug, task_index, 'json', 'none', content, length(content),
    length(content), sha256(content), left(convert_from(content, 'UTF8'), 40)
  )
$$;
