-- Internal, of settle_run(), start_ready_steps(). Starts the steps of a run whose dependencies are done, and
-- queues their first tasks. The caller has locked the run, which goes on. The tasks become visible after
-- `delay` seconds, or after the start delay of their step if that is longer.
create or replace function pgflow.start_steps(run_id uuid, delay double precision)
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  step record;
  wait double precision;
begin
  for step in
    with started as (
      update pgflow.step_states s
      set
        status = 'started', started_at = clock_timestamp(), remaining_tasks = s.initial_tasks,
        queued_tasks = case when s.queued_tasks is not null then least(s.initial_tasks, 1000) end
      from pgflow.steps o
      where
        s.run_id = start_steps.run_id and s.status = 'created' and s.remaining_deps = 0
        and s.initial_tasks > 0 and o.flow_slug = s.flow_slug and o.step_slug = s.step_slug
      returning
        s.flow_slug, s.step_slug, o.step_index, o.step_type, s.initial_tasks, o.opt_start_delay
    )
    select * from started order by step_index
  loop
    wait := greatest(start_steps.delay, step.opt_start_delay);
    if step.step_type = 'single' then
      perform pgflow.queue_steps(
        step.flow_slug, wait,
        array[row(step.flow_slug, start_steps.run_id, step.step_slug, 1)::pgflow.started_step]
      );
    else
      perform pgflow.store_elements(start_steps.run_id, step.step_slug);
      perform pgflow.queue_tasks(
        step.flow_slug, start_steps.run_id, step.step_slug, 0,
        least(step.initial_tasks, 1000) - 1, wait
      );
    end if;
  end loop;
end
$$;
