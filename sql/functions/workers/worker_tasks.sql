-- Internal, of bury_worker(), free_tasks(), leave_seat(). Returns the tasks that a worker has claimed
-- and not settled, among those of these flows.
--
-- They are found by their hidden messages. With an index on worker_id, each claim would have to write an
-- index entry.
create or replace function pgflow.worker_tasks(worker_id uuid, flow_slugs text[])
returns table (
  flow_slug text,
  run_id uuid,
  step_slug text,
  task_index integer,
  attempts_count integer,
  message_id bigint
)
language plpgsql stable
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  slug text;
  hidden bigint[];
begin
  if not has_schema_privilege('pgmq', 'usage') then
    return; -- a client that reads the view pgflow.live_workers to see whether any worker lives
  end if;
  -- Only flows that exist: the slugs in a seat need not be names of queues.
  for slug in
    select f.flow_slug from pgflow.flows f where f.flow_slug = any(worker_tasks.flow_slugs)
  loop
    continue when to_regclass(format('pgmq.%I', pgmq.format_table_name(slug, 'q'))) is null; -- the queue is lost
    -- A parameter, because the index on vt cannot be used with a volatile function.
    execute format(
      'select array_agg(msg_id) from pgmq.%I where vt > $1 and read_ct > 0',
      pgmq.format_table_name(slug, 'q')
    ) into hidden using clock_timestamp();
    return query
    select t.flow_slug, t.run_id, t.step_slug, t.task_index, t.attempts_count, t.message_id
    from unnest(hidden) as m (id)
    -- The limit keeps this an index look-up.
    cross join lateral (
      select
        t.flow_slug, t.run_id, t.step_slug, t.task_index, t.attempts_count, t.message_id, t.worker_id
      from pgflow.step_tasks t
      where t.message_id = m.id and t.flow_slug = slug and t.status = 'queued' limit 1
    ) t
    where t.worker_id = worker_tasks.worker_id;
  end loop;
end
$$;
