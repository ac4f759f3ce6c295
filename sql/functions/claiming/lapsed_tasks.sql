-- Internal, of fail_lapsed_tasks(), make_queue_claim(). Returns the tasks whose last attempt lapsed, among the
-- first hundred visible messages of each flow, and among those that have been visible for longest: claims
-- of other sessions may begin with these. If the session knows that the head of the queue is hidden, it
-- reads the latter only; see make_queue_look().
--
-- The function is stable, so that its statements share one snapshot. With two snapshots, a last attempt
-- that was claimed between them would look lapsed.
create or replace function pgflow.lapsed_tasks(flow_slugs text[])
returns table (
  run_id uuid,
  step_slug text,
  task_index integer,
  attempt integer,
  timeout integer
)
language plpgsql stable
set search_path = ''
set enable_seqscan = off
set enable_bitmapscan = off -- read only the head of the queue, in the order of the index
set enable_sort = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  slug text;
  queue text;
  reappeared bigint[];
begin
  foreach slug in array flow_slugs loop
    queue := pgmq.format_table_name(slug, 'q');
    continue when to_regclass(format('pgmq.%I', queue)) is null; -- the queue is lost
    execute format(
      $sql$
        select array_agg(distinct m.msg_id) filter (where m.read_ct > 0) from (
          (
            select msg_id, read_ct from pgmq.%1$I
            where msg_id >= $1 and vt <= $2 and %2$s and not $3
            order by msg_id limit 100
          )
          union all
          (select msg_id, read_ct from pgmq.%1$I where vt <= $2 and %2$s order by vt limit 100)
        ) m
      $sql$, queue, pgflow.task_messages()
    ) into reappeared
    using
      pgflow.queue_floor(queue), clock_timestamp(),
      coalesce(current_setting('pgflow.hidden_' || queue, true) = 'on', false);
    continue when reappeared is null;

    return query
    select t.run_id, t.step_slug, t.task_index, t.attempts_count, o.timeout
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
      t.flow_slug = slug and t.message_id = any(reappeared) and t.status in ('queued', 'started')
      and t.attempts_count >= o.max_attempts;
  end loop;
end
$$;
