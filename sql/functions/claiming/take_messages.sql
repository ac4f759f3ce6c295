-- Internal, of take_tasks(). Claims the tasks of up to qty visible messages of a flow, lowest ids first.
-- Raises their attempts and hides the messages for the timeout and 2 seconds. Returns the ids of the
-- messages.
--
-- With max_bytes, tasks whose handlers load blobs are claimed in order until these bytes are used up.
--
-- It never waits for a lock, so it may take locks in any order. It reads the ids first and the tasks
-- afterwards: the planner would plan a single query for a table of unknown size.
create or replace function pgflow.take_messages(
  flow_slug text,
  qty integer,
  worker_id uuid,
  max_bytes bigint default null
)
returns bigint[]
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  queue text := pgmq.format_table_name(flow_slug, 'q');
  visible bigint[];
  taken bigint[];
  timeouts integer[];
  dead bigint[];
begin
  if to_regclass(format('pgmq.%I', queue)) is null then
    perform pgflow.tell_of_lost_queue(take_messages.flow_slug);
    return array[]::bigint[];
  end if;
  loop
    execute format('select pgflow_queues.%I($1, $2)', 'lock_' || queue)
    into visible using pgflow.queue_floor(queue), qty;
    if visible = '{}' then
      return array[]::bigint[];
    end if;

    with free as (
      select t.ctid, t.message_id, t.input_bytes, o.timeout
      from pgflow.step_tasks t
      -- The limit keeps this an index look-up.
      cross join lateral (
        select
          coalesce(s.opt_timeout, f.opt_timeout) as timeout,
          greatest(coalesce(s.opt_max_attempts, f.opt_max_attempts), 1) as max_attempts
        from pgflow.steps s join pgflow.flows f using (flow_slug)
        where s.flow_slug = t.flow_slug and s.step_slug = t.step_slug
        limit 1
      ) o
      where
        t.flow_slug = take_messages.flow_slug and t.message_id = any(visible) and t.status = 'queued'
        and t.attempts_count < o.max_attempts
      for update of t skip locked
    ),
    summed as (
      select f.*, sum(f.input_bytes) over (order by f.message_id) as total from free f
    ),
    claimed as (
      update pgflow.step_tasks t
      set
        attempts_count = t.attempts_count + 1, started_at = clock_timestamp(),
        worker_id = take_messages.worker_id
      from summed f
      where
        t.ctid = f.ctid
        and (f.input_bytes = 0 or take_messages.max_bytes is null or f.total <= take_messages.max_bytes)
      returning t.message_id, f.timeout
    )
    select coalesce(array_agg(c.message_id), '{}'), array_agg(c.timeout) into taken, timeouts
    from claimed c;

    if taken <> '{}' then
      execute format('select pgflow_queues.%I($1, $2)', 'hide_' || queue) using taken, timeouts;
    end if;
    exit when cardinality(taken) = cardinality(visible);

    -- Archive messages without a queued task or a run: they would stay at the head of the queue for ever.
    dead := array(
      select m.id from unnest(visible) as m (id)
      where (
        select (select r.run_id from pgflow.runs r where r.run_id = t.run_id)
        from pgflow.step_tasks t
        where
          t.flow_slug = take_messages.flow_slug and t.message_id = m.id and t.status = 'queued'
        limit 1
      ) is null
    );
    exit when taken <> '{}' or dead = '{}';
    execute format('select pgflow_queues.%I($1)', 'archive_' || queue) using dead;
  end loop;
  return taken;
end
$$;
