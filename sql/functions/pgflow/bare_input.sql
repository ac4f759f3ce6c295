-- Internal, of start_tasks(). Returns what pgflow's workers give to the handler of a task; see there.
create or replace function pgflow.bare_input(
  flow_slug text,
  run_id uuid,
  step_slug text,
  task_index integer,
  out input jsonb,
  out flow_input jsonb,
  out blobs_refs jsonb
)
language plpgsql stable
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  step record;
  element record;
begin
  select s.step_type, s.deps_count, d.dep_slug into step
  from pgflow.steps s
  left join pgflow.deps d on d.flow_slug = s.flow_slug and d.step_slug = s.step_slug
  where s.flow_slug = bare_input.flow_slug and s.step_slug = bare_input.step_slug
  limit 1;
  blobs_refs := '{}';
  if step.step_type = 'map' then
    select * into element from pgflow.map_element(run_id, step_slug, task_index);
    input := pgflow.sql_value(element.value, element.blob_id);
    if input is null then
      blobs_refs := jsonb_build_object(coalesce(step.dep_slug, 'run') || '.each', element.blob_id);
    end if;
    return;
  end if;

  input := '{}';
  if step.deps_count = 0 then
    select
      pgflow.sql_value(r.input, r.input_blob_id), jsonb_build_object('run', r.input_blob_id)
    into flow_input, blobs_refs
    from pgflow.runs r where r.run_id = bare_input.run_id;
    if flow_input is not null then
      blobs_refs := '{}';
    end if;
    return;
  end if;

  select
    coalesce(jsonb_object_agg(o.dep_slug, o.known) filter (where not o.is_hidden), '{}'),
    coalesce(jsonb_object_agg(o.dep_slug, o.blob_id) filter (where o.is_hidden), '{}')
  into input, blobs_refs
  from (
    select d.dep_slug, v.blob_id, k.known, v.blob_id is not null and k.known is null as is_hidden
    from pgflow.deps d
    cross join lateral pgflow.step_value(bare_input.run_id, d.dep_slug) v
    cross join lateral (select pgflow.sql_value(v.value, v.blob_id) as known offset 0) k
    where
      d.flow_slug = bare_input.flow_slug and d.step_slug = bare_input.step_slug and v.status = 'completed'
  ) o;
end
$$;
