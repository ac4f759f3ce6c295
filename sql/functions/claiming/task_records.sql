-- Internal, of make_queue_claim(), unreadable_tasks(). Returns the tasks of these messages with their inputs, in the order of
-- the messages. An input that is a blob is not in `input`; `blobs_refs` has its id.
--
-- The key "<dependency>.each", or "run.each", has the element that a task of a map works on. A dependency that
-- was skipped has no key.
create or replace function pgflow.task_records(flow_slug text, message_ids bigint[])
returns setof pgflow.step_task_record
language plpgsql stable
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
  select
    t.flow_slug, t.run_id, t.step_slug,
    case when r.input_blob_id is null and s.takes_run then jsonb_build_object('run', r.input) else '{}' end
    || coalesce(deps.outputs, '{}')
    || case when s.is_map and e.blob_id is null
      then jsonb_build_object(s.each, coalesce(e.value, 'null')) else '{}' end,
    t.message_id, t.task_index, t.attempts_count, s.timeout,
    case when r.input_blob_id is null then '{}' else jsonb_build_object('run', r.input_blob_id) end
    || coalesce(deps.refs, '{}')
    || case when e.blob_id is null then '{}' else jsonb_build_object(s.each, e.blob_id) end,
    t.input_bytes, null::jsonb
  from pgflow.step_tasks t
  -- The limit keeps this an index look-up.
  cross join lateral (
    select r.input, r.input_blob_id from pgflow.runs r where r.run_id = t.run_id limit 1
  ) r
  cross join lateral (
    select
      coalesce(s.opt_timeout, f.opt_timeout) as timeout, s.step_type = 'map' as is_map,
      -- A thousand tasks of a map need not carry the list that each of them has one element of.
      s.step_type = 'single' or s.opt_loads is null or 'run' = any(s.opt_loads) as takes_run,
      coalesce(
        (
          select d.dep_slug from pgflow.deps d
          where d.flow_slug = s.flow_slug and d.step_slug = s.step_slug limit 1
        ), 'run'
      ) || '.each' as each
    from pgflow.steps s join pgflow.flows f using (flow_slug)
    where s.flow_slug = t.flow_slug and s.step_slug = t.step_slug
    limit 1
  ) s
  cross join lateral (
    select
      jsonb_object_agg(d.dep_slug, coalesce(o.value, 'null')) filter (where o.blob_id is null) as outputs,
      jsonb_object_agg(d.dep_slug, o.blob_id) filter (where o.blob_id is not null) as refs
    from pgflow.deps d
    cross join lateral pgflow.step_value(t.run_id, d.dep_slug) o
    where
      d.flow_slug = t.flow_slug and d.step_slug = t.step_slug and not s.is_map
      and o.status = 'completed'
  ) deps
  cross join lateral (
    select m.value, m.blob_id from pgflow.map_element(t.run_id, t.step_slug, t.task_index) m where s.is_map
    union all
    select null, null where not s.is_map
  ) e
  where
    t.flow_slug = task_records.flow_slug and t.message_id = any(message_ids)
    and t.status = 'queued'
  order by t.message_id;
end
$$;
