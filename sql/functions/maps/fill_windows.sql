-- Internal, of settle_run(). Queues more tasks of the maps of a run that have started. A map has at most a
-- thousand tasks in its queue, so that a long list does not fill the queue. The next ones follow when half
-- of these have ended; advance_runs() has the same number.
create or replace function pgflow.fill_windows(run_id uuid)
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  map record;
begin
  for map in
    select
      s.flow_slug, s.step_slug, s.queued_tasks as first,
      least(s.initial_tasks, s.initial_tasks - s.remaining_tasks + 1000) as next,
      o.opt_start_delay - extract(epoch from clock_timestamp() - s.started_at)::double precision as delay
    from pgflow.step_states s
    join pgflow.steps o on o.flow_slug = s.flow_slug and o.step_slug = s.step_slug
    where
      s.run_id = fill_windows.run_id and s.status = 'started' and s.queued_tasks < s.initial_tasks
      and s.queued_tasks - (s.initial_tasks - s.remaining_tasks) <= 500
  loop
    update pgflow.step_states s set queued_tasks = map.next
    where s.run_id = fill_windows.run_id and s.step_slug = map.step_slug;
    perform pgflow.queue_tasks(
      map.flow_slug, fill_windows.run_id, map.step_slug, map.first, map.next - 1,
      greatest(map.delay, 0)
    );
  end loop;
end
$$;
