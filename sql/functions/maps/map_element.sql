-- Internal, of bare_input(), task_records(). Returns the element that a task of a map works on: its JSON, or
-- the id of the blob.
create or replace function pgflow.map_element(
  run_id uuid,
  step_slug text,
  task_index integer,
  out value jsonb,
  out blob_id uuid
)
language sql stable
set search_path = ''
set enable_seqscan = off
as $$
  select e.elements -> (task_index - e.first_index), e.blob_ids[task_index - e.first_index + 1]
  from pgflow.map_elements e
  where
    e.run_id = map_element.run_id and e.step_slug = map_element.step_slug
    and e.first_index <= map_element.task_index
  order by e.first_index desc limit 1
$$;
