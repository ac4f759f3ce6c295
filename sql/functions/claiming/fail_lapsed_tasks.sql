-- Worker. Fails the tasks whose last attempt lapsed: its message became visible again and the attempt
-- had given no answer. Returns the number of runs that it dealt with.
--
-- Otherwise a handler that kills its worker would kill one worker after another for ever. Runs that
-- another session has locked are left to a later call.
create or replace function pgflow.fail_lapsed_tasks(flow_slugs text[])
returns integer
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  notify text := current_setting('pgflow.notify', true);
  free uuid[] := array(
    select r.run_id from pgflow.runs r
    where r.run_id = any(array(select l.run_id from pgflow.lapsed_tasks(flow_slugs) l))
    for no key update skip locked
  );
  lapsed record;
begin
  if free = '{}' then
    return 0;
  end if;

  select
    array_agg(l.run_id) as run_ids, array_agg(l.step_slug) as step_slugs,
    array_agg(l.task_index) as task_indexes, array_agg(l.attempt) as attempts,
    array_agg(
      -- The text that bury_worker() wrote says more.
      case when starts_with(t.error_message, format('attempt %s was lost: ', l.attempt))
        then t.error_message
        else format('attempt %s gave no answer within its %s seconds', l.attempt, l.timeout) end
    ) as error_messages,
    count(*)::integer as n
  into lapsed
  from pgflow.lapsed_tasks(flow_slugs) l
  cross join lateral (
    select t.error_message from pgflow.step_tasks t
    where t.run_id = l.run_id and t.step_slug = l.step_slug and t.task_index = l.task_index limit 1
  ) t
  where l.run_id = any(free);

  perform set_config('pgflow.notify', 'on', true);
  perform pgflow.settle_tasks(
    lapsed.run_ids, lapsed.step_slugs, lapsed.task_indexes, lapsed.attempts,
    array_fill(null::jsonb, array[lapsed.n]), array_fill(null::uuid, array[lapsed.n]),
    lapsed.error_messages, array_fill(true, array[lapsed.n])
  );
  perform set_config('pgflow.notify', coalesce(notify, ''), true);
  return cardinality(free);
end
$$;
