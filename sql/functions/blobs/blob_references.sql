-- Internal, of blob_faults(). Returns every blob that a run names, and the place where it is named.
-- `again` marks the output of a run, and the elements of the output of a map: such a blob is also the output
-- of a task, or the list itself is that of a map.
create or replace function pgflow.blob_references()
returns table (run_id uuid, id uuid, place text, again boolean)
language sql stable
set search_path = ''
as $$
  select r.run_id, r.input_blob_id, 'as its input', false from pgflow.runs r
  where r.input_blob_id is not null
  union all
  select t.run_id, t.output_blob_id, 'as the output of ' || t.step_slug, false
  from pgflow.step_tasks t
  where t.output_blob_id is not null
  union all
  select s.run_id, s.output_blob_id, 'as the output of ' || s.step_slug, false
  from pgflow.step_states s
  where s.output_blob_id is not null
  union all
  select l.run_id, e.id, format('in list %s', l.id), l.task_index = -1
  from pgflow.output_blobs l cross join unnest(l.elements) as e (id)
  where e.id is not null
  union all
  select r.run_id, o.value::uuid, 'as its output ' || o.key, true
  from pgflow.runs r
  cross join jsonb_each_text(
    case jsonb_typeof(r.output_blobs_refs) when 'object' then r.output_blobs_refs end
  ) as o
  where o.value ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' -- what is none names nothing
$$;
