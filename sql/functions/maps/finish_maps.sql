-- Internal, of settle_run(). Gives each completed map of a run its output: the outputs of its tasks, in the
-- order of the elements. They become one JSON array if they are short enough to stay in the row. Otherwise
-- they become a list that names the blobs of the tasks, and copies none of them.
create or replace function pgflow.finish_maps(run_id uuid)
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  map record;
  list record;
  content bytea;
  blob uuid;
begin
  for map in
    select s.step_slug from pgflow.step_states s
    join pgflow.steps o on o.flow_slug = s.flow_slug and o.step_slug = s.step_slug
    where
      s.run_id = finish_maps.run_id and s.status = 'completed' and o.step_type = 'map'
      and s.output is null and s.output_blob_id is null
    order by o.step_index
  loop
    select
      '[' || string_agg(coalesce(t.output::text, 'null'), ',' order by t.task_index) || ']' as elements,
      array_agg(t.output_blob_id order by t.task_index) as blob_ids
    into list
    from pgflow.step_tasks t
    where t.run_id = finish_maps.run_id and t.step_slug = map.step_slug;
    if
      array_remove(list.blob_ids, null) = '{}'
      and octet_length(list.elements) <= pgflow.task_blob_threshold(run_id, map.step_slug, 0)
    then
      update pgflow.step_states s set output = list.elements::jsonb
      where s.run_id = finish_maps.run_id and s.step_slug = map.step_slug;
      continue;
    end if;

    blob := pgflow.new_blob_id(run_id);
    content := convert_to(list.elements, 'UTF8');
    insert into pgflow.output_blobs (
      id, run_id, step_slug, task_index, kind, codec, content, raw_size, stored_size, sha256, preview,
      elements
    )
    values (
      -- The number -1 stands for all tasks of the step.
      blob, finish_maps.run_id, map.step_slug, -1, 'list', 'none', content, length(content),
      length(content), sha256(content), left(list.elements, 40), list.blob_ids
    );
    update pgflow.step_states s set output_blob_id = blob
    where s.run_id = finish_maps.run_id and s.step_slug = map.step_slug;
    update pgflow.runs r set has_blobs = true
    where r.run_id = finish_maps.run_id and not r.has_blobs;
  end loop;
end
$$;
