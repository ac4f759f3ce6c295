-- Internal, of unreadable_tasks(). Returns the tasks of these messages with their inputs, in the order of
-- the messages. An input that is a blob is not in `input`; `blobs_refs` has its id.
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
    case when r.input_blob_id is null then jsonb_build_object('run', r.input) else '{}' end
    || coalesce(deps.outputs, '{}'),
    t.message_id, t.task_index, t.attempts_count, s.timeout,
    case when r.input_blob_id is null then '{}' else jsonb_build_object('run', r.input_blob_id) end
    || coalesce(deps.refs, '{}'),
    t.input_bytes
  from pgflow.step_tasks t
  -- The limit keeps this an index look-up.
  cross join lateral (
    select r.input, r.input_blob_id from pgflow.runs r where r.run_id = t.run_id limit 1
  ) r
  cross join lateral (
    select coalesce(s.opt_timeout, f.opt_timeout) as timeout
    from pgflow.steps s join pgflow.flows f using (flow_slug)
    where s.flow_slug = t.flow_slug and s.step_slug = t.step_slug
    limit 1
  ) s
  cross join lateral (
    select
      jsonb_object_agg(o.step_slug, o.output) filter (where o.output_blob_id is null) as outputs,
      jsonb_object_agg(o.step_slug, o.output_blob_id) filter (where o.output_blob_id is not null)
      as refs
    from pgflow.deps d
    -- A join may be planned to read all tasks of the run, for each of its tasks.
    cross join lateral (
      select o.step_slug, o.output, o.output_blob_id from pgflow.step_tasks o
      where o.run_id = t.run_id and o.step_slug = d.dep_slug and o.task_index = 0
      limit 1
    ) o
    where d.flow_slug = t.flow_slug and d.step_slug = t.step_slug
  ) deps
  where
    t.flow_slug = task_records.flow_slug and t.message_id = any(message_ids)
    and t.status = 'queued'
  order by t.message_id;
end
$$;
