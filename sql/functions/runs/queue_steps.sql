-- Internal, of start_flows(), start_steps(). Queues the tasks of steps that are no maps and have started.
-- They become visible after `delay` seconds.
create or replace function pgflow.queue_steps(
  flow_slug text,
  delay double precision,
  steps pgflow.started_step[]
)
returns void
language plpgsql
set search_path = ''
as $$
begin
  if delay > 0 then
    perform pgflow.queue_tasks(s.flow_slug, s.run_id, s.step_slug, 0, 0, delay) from unnest(steps) s;
  else
    execute format(
      'select pgflow_queues.%I(null, $1)', 'advance_' || pgmq.format_table_name(flow_slug, 'q')
    ) using steps;
  end if;
end
$$;
