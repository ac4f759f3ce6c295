-- Internal, of bare_input(), learn_sizes(), maybe_complete_run(), send_step_event(), store_elements(),
-- task_records(), value_contains(). Returns the output of a step of a run, and how it ended; for a null
-- step_slug, the input of the run. `tasks` is the number of tasks if the step is a map: then the value is
-- made of their outputs.
create or replace function pgflow.step_value(run_id uuid, step_slug text)
returns table (status text, value jsonb, blob_id uuid, tasks integer)
language plpgsql stable
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  if step_slug is null then
    return query
    select 'completed', r.input, r.input_blob_id, null::integer
    from pgflow.runs r where r.run_id = step_value.run_id;
  else
    return query
    select
      s.status,
      case when o.step_type = 'map' then s.output else t.output end,
      case when o.step_type = 'map' then s.output_blob_id else t.output_blob_id end,
      case when o.step_type = 'map' then s.initial_tasks end
    from pgflow.step_states s
    join pgflow.steps o on o.flow_slug = s.flow_slug and o.step_slug = s.step_slug
    left join pgflow.step_tasks t
    on t.run_id = s.run_id and t.step_slug = s.step_slug and t.task_index = 0 and o.step_type = 'single'
    where s.run_id = step_value.run_id and s.step_slug = step_value.step_slug;
  end if;
end
$$;
